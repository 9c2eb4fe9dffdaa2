//! What the ledger says that the asker engaged with, asked for beside the sources, so that it is there when they are.
//!
//! Only where others write, too: what this process alone writes it knows without asking. Remembered until an epoch of the asker's ends.

use std::{sync::Arc, time::Duration};

use nearcast_domain::{StoreResult, ports::HistoryLimit};
use tokio::time::Instant;

use super::sources::Ask;

/// Of who engaged more often than this, the ledger is asked about the few items that would be shown.
const MOST: usize = 500;

/// The asker's items, each once; `None` where it need not be known or is too much to be read at once.
pub(super) fn engaged<'a>(ask: &Ask<'a>, deadline: Instant) -> impl Future<Output = StoreResult<Option<Arc<[u32]>>>> + use<'a> {
    let (on, mem, epochs) = (ask.on, ask.mem.clone(), ask.epochs);
    let asker = ask.user.filter(|_| !on.config.recommend_engaged && !mem.exclusive());
    let (tenant, user) = (ask.tenant.clone(), asker.cloned());
    async move {
        let Some(user) = user else { return Ok(None) };
        let most = Duration::from_millis(on.config.sources.near_fresh_ms);
        if epochs.is_some()
            && let Some(known) = mem.engaged(&user, epochs, most)
        {
            return Ok(known);
        }
        let ledger = on.stores.ledger.clone();
        let work = async move {
            let limit = HistoryLimit { engagements: MOST, messages: 0 };
            let history = ledger.histories(&tenant, std::slice::from_ref(&user), limit, None).await?.pop().unwrap_or_default();
            let whole = history.engagements.len() < MOST;
            let items = whole.then(|| {
                let mut items = mem.numbers(history.engagements.iter().map(|e| &e.item));
                items.sort_unstable();
                items.dedup();
                Arc::from(items)
            });
            if epochs.is_some() {
                mem.keep_engaged(user, items.clone(), epochs);
            }
            Ok(items)
        };
        on.late.run(deadline, "ledger", work).await
    }
}
