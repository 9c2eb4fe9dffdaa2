//! Whether the brokers let us in: asked once before anything is set up, so that a wrong password or certificate is told as what it is.
//!
//! The library tells its reasons beside its answers: a call only times out. Here somebody listens.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaErrorCode as Code,
};

use super::{
    KafkaConfig, client,
    error::{self, LOG},
};

/// How long one question waits before what was said beside it is looked at.
const QUESTION: Duration = Duration::from_millis(500);

/// Keeps what the library says of its connections: the last reason, and whether trying again could not help.
#[derive(Clone, Default)]
struct Hearing(Arc<Mutex<Option<(Option<Code>, String)>>>);

impl ClientContext for Hearing {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn error(&self, e: KafkaError, reason: &str) {
        let refused = e.rdkafka_error_code().filter(|code| matches!(code, Code::Authentication | Code::SSL));
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down follows from what was said before.
        if refused.is_some() || heard.as_ref().is_none_or(|(code, _)| code.is_none()) && !is_summary(&e) {
            *heard = Some((refused, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Hearing {}

fn is_summary(e: &KafkaError) -> bool {
    e.rdkafka_error_code() == Some(Code::AllBrokersDown)
}

/// Waits until a broker answers. Blocks.
pub(super) fn greet(config: &KafkaConfig, patience: Duration) -> StoreResult<()> {
    let hearing = Hearing::default();
    let consumer: BaseConsumer<Hearing> = client::make(LOG, &client::base(config)?, hearing.clone())?;
    let until = Instant::now() + patience;
    loop {
        let Err(e) = consumer.fetch_metadata(Some(&config.topic), QUESTION) else { return Ok(()) };
        while consumer.poll(Duration::ZERO).is_some() {}
        let heard = hearing.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match heard {
            Some((Some(code), reason)) => return Err(error::of_code(LOG, &format!("greeting the brokers: {reason}"), code)),
            Some((None, reason)) if Instant::now() >= until => {
                let message = format!("greeting the brokers: no answer from {}: {reason}; check kafka.brokers", config.brokers);
                return Err(StoreError::new(ErrorKind::Timeout, LOG, message));
            }
            None if Instant::now() >= until => return Err(error::error("greeting the brokers", &e)),
            _ => {}
        }
    }
}
