//! What other instances changed, as it is told on a channel.
//!
//! Messages may be lost: whoever listens is told when that may have happened, and must take nothing for known from then on.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use nearcast_domain::{ErrorKind, StoreError, StoreResult};
use serde::{Deserialize, Serialize};
use tokio::time::{interval, timeout};

use super::{
    RedisCache,
    connect::{from_redis, subscription},
};

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::cache) enum Change {
    /// New epochs, by owner.
    #[serde(rename = "e")]
    Epochs(Vec<(String, u64)>),
    /// Answers with this prefix are gone, and their owner has this epoch.
    #[serde(rename = "f")]
    Forgotten(String, u64),
    /// No epoch is less than this.
    #[serde(rename = "b")]
    Base(u64),
}

impl Change {
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What whoever listens is told.
pub(in crate::cache) enum Heard {
    /// From now on every change is heard. The base at that time or later.
    Begun(u64),
    /// Something changed.
    Change(Change),
    /// Everything that was told before this moment was heard. The base at that time or later.
    UpTo(Instant, u64),
}

/// Listens until the connection is lost, and says why. `turn` chooses among the nodes of a cluster.
pub(in crate::cache) async fn listen(cache: &RedisCache, turn: usize, mut hear: impl FnMut(Heard) + Send) -> StoreError {
    match listening(cache, turn, &mut hear).await {
        Ok(()) => StoreError::new(ErrorKind::Unavailable, "cache", "Redis ended the subscription"),
        Err(e) => e,
    }
}

async fn listening(cache: &RedisCache, turn: usize, hear: &mut (impl FnMut(Heard) + Send)) -> StoreResult<()> {
    let (config, keys) = (cache.config(), &cache.link.shared.keys);
    let connect = Duration::from_millis(config.connect_ms);
    let late = || StoreError::new(ErrorKind::Timeout, "cache", "the subscription got no answer in time");
    let mut subscribed = timeout(connect, subscription(config, turn)).await.map_err(|_| late())??;
    timeout(connect, subscribed.subscribe(keys.channel())).await.map_err(|_| late())?.map_err(from_redis)?;
    // Read after the subscription began: a change in between is heard as well.
    hear(Heard::Begun(cache.read_base().await?));
    let (mut sink, mut messages) = subscribed.split();
    let beat = Duration::from_millis(config.heartbeat_ms);
    let mut beats = interval(beat);
    loop {
        tokio::select! {
            biased;
            message = messages.next() => match message {
                Some(m) => {
                    // What a later version tells and this one does not know ends nothing here: it may mean anything.
                    let change = serde_json::from_slice(m.get_payload_bytes())
                        .map_err(|e| StoreError::new(ErrorKind::Corrupt, "cache", format!("a message cannot be read: {e}")))?;
                    hear(Heard::Change(change));
                }
                None => return Ok(()),
            },
            _ = beats.tick() => {
                let (asked, base) = (Instant::now(), cache.read_base().await?);
                // The answer comes behind all messages that were sent before it, so these wait in the stream already.
                timeout(beat.max(connect), sink.ping::<redis::Value>()).await.map_err(|_| late())?.map_err(from_redis)?;
                while let Some(Some(m)) = futures_util::FutureExt::now_or_never(messages.next()) {
                    let change = serde_json::from_slice(m.get_payload_bytes())
                        .map_err(|e| StoreError::new(ErrorKind::Corrupt, "cache", format!("a message cannot be read: {e}")))?;
                    hear(Heard::Change(change));
                }
                hear(Heard::UpTo(asked, base));
            }
        }
    }
}
