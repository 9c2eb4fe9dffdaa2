//! The ledger in pages, and from it the rows of an export.
//!
//! No snapshot: each user is whole as of the moment when they were read, and what comes later may be missing. Who is erased meanwhile is
//! taken out again before the end.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use nearcast_domain::{
    Engagement, Erasure, Event, ItemId, Message, StoreResult, Tenant, Timestamp, UserId, Vector,
    ports::{Collection, History, HistoryLimit, LedgerRead, ModelInfo, VectorJobs, VectorRead},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    TransferError,
    manifest::{Manifest, Model},
    parts::Parts,
    rows::{Cut, Embedded, Encoding, Row, UserRow, What},
    stage::Stage,
};
use crate::reconcile::rest;

/// Users and items in one page of the ledger.
const PAGE: usize = 128;
/// About how many events a shard holds, where nothing else is asked for.
const EVENTS_A_SHARD: u64 = 1_000_000;
/// The most shards.
const MOST_SHARDS: u64 = 64;
/// How often the erasures that came meanwhile are looked at.
const ROUNDS: usize = 8;

/// How it is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// What is written.
    pub what: Vec<What>,
    /// As what.
    pub encoding: Encoding,
    /// How long the time of one directory is.
    pub cut: Cut,
    /// Into how many shards users are cut; `None`: one for each million events.
    pub shards: Option<usize>,
    /// Bytes of rows that wait in memory, about.
    pub memory: usize,
    /// The share of the time that is worked.
    pub share: f64,
    /// Whether an export that is there already is replaced.
    pub replace: bool,
}

/// Writes an export.
pub struct Export {
    /// What is exported.
    pub ledger: Arc<dyn LedgerRead>,
    /// Where profiles lie.
    pub vectors: Arc<dyn VectorJobs>,
    /// Whose vectors are exported.
    pub model: ModelInfo,
    /// The directory that it becomes.
    pub out: PathBuf,
    /// How it is done.
    pub options: Options,
    /// Told of the rows done, of how many.
    pub progress: Box<dyn Fn(u64, u64) + Send + Sync>,
    /// Stops it.
    pub cancel: CancellationToken,
}

/// One under way.
struct Job<'a> {
    of: &'a Export,
    revision: Arc<str>,
    profiles: Arc<dyn VectorRead>,
    parts: Parts,
    done: u64,
    all: u64,
}

impl Export {
    /// Goes through the ledger once. The directory is there when this has returned, or is not.
    ///
    /// # Errors
    /// Where a store or the disk refuses, where something lies in the way, and where it is stopped.
    pub async fn run(&self) -> Result<Manifest, TransferError> {
        let begun = Timestamp::now();
        let stage = Stage::begin(&self.out, self.options.replace)?;
        let tenants = self.ledger.tenants().await?;
        let (mut events, mut items) = (0, 0);
        for tenant in &tenants {
            let counts = self.ledger.counts(tenant).await?;
            events += counts.events;
            items += counts.items;
        }
        let o = &self.options;
        let shards = o.shards.unwrap_or(events.div_ceil(EVENTS_A_SHARD).clamp(1, MOST_SHARDS) as usize);
        let before = self.erasures().await?;
        let mut job = Job {
            of: self,
            revision: self.model.revision.as_str().into(),
            profiles: self.vectors.of_revision(&self.model.revision),
            parts: Parts::new(stage.dir.clone(), o.encoding, o.cut, shards, o.what.clone(), o.memory),
            done: 0,
            all: events + items,
        };
        if o.what.contains(&What::Events) {
            for ((tenant, user), until) in &before {
                job.erasure(tenant, user, *until).await?;
            }
        }
        for tenant in &tenants {
            if o.what.contains(&What::Items) || o.what.contains(&What::Embeddings) {
                job.items(tenant).await?;
            }
            if o.what.iter().any(|w| *w != What::Items) {
                job.users(tenant).await?;
            }
        }
        job.parts.finish().await?;
        job.forget(before).await?;
        let model =
            Model { name: self.model.name.clone(), revision: self.model.revision.clone(), dimension: self.model.dimension };
        let mut manifest = Manifest::new(begun, o.encoding, o.cut, shards, o.what.clone(), model);
        (manifest.files, manifest.counts) = job.parts.done();
        manifest.finished = Timestamp::now();
        manifest.write(&stage.dir)?;
        stage.done()?;
        Ok(manifest)
    }

    async fn erasures(&self) -> StoreResult<HashMap<(Tenant, UserId), Timestamp>> {
        let all = self.ledger.erasures().await?;
        Ok(all.into_iter().map(|e| ((e.tenant, e.user), e.until)).collect())
    }
}

impl Job<'_> {
    fn go_on(&self) -> Result<(), TransferError> {
        if self.of.cancel.is_cancelled() { Err(TransferError::Interrupted) } else { Ok(()) }
    }

    async fn rest(&mut self, since: Instant, rows: usize) {
        self.done += rows as u64;
        (self.of.progress)(self.done, self.all);
        rest(since.elapsed(), self.of.options.share).await;
    }

    async fn erasure(&mut self, tenant: &Tenant, user: &UserId, until: Timestamp) -> Result<(), TransferError> {
        let erasure = Erasure { tenant: tenant.clone(), user_id: user.clone(), timestamp: until };
        self.parts.put(Row::Event(Event::Erasure(erasure)), None).await
    }

    async fn items(&mut self, tenant: &Tenant) -> Result<(), TransferError> {
        let embeddings = self.of.options.what.contains(&What::Embeddings);
        let revision = self.revision.clone();
        let mut after: Option<ItemId> = None;
        loop {
            self.go_on()?;
            let begun = Instant::now();
            let page = self.of.ledger.catalogue(tenant, after.as_ref(), PAGE, embeddings.then_some(&*revision)).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.item.item_id.clone());
            let rows = page.len();
            for state in page {
                let vector = state.vector.filter(|_| embeddings).map(|vector| Embedded {
                    tenant: tenant.clone(),
                    user_id: None,
                    message_id: None,
                    item_id: Some(state.item.item_id.clone()),
                    revision: revision.clone(),
                    vector,
                });
                self.parts.put(Row::Event(Event::Item(state.item)), vector).await?;
            }
            self.rest(begun, rows).await;
        }
    }

    async fn users(&mut self, tenant: &Tenant) -> Result<(), TransferError> {
        const EVERYTHING: HistoryLimit = HistoryLimit { engagements: usize::MAX, messages: usize::MAX };
        let wanted = |what| self.of.options.what.contains(&what);
        let (events, embeddings) = (wanted(What::Events) || wanted(What::Embeddings), wanted(What::Embeddings));
        let (users, profiles) = (wanted(What::Users), wanted(What::Profiles));
        let revision = self.revision.clone();
        let mut after: Option<UserId> = None;
        loop {
            self.go_on()?;
            let begun = Instant::now();
            let page = self.of.ledger.users(tenant, "", after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let histories = if events || users {
                self.of.ledger.histories(tenant, &page, EVERYTHING, embeddings.then_some(&*revision)).await?
            } else {
                vec![History::default(); page.len()]
            };
            let vectors = if profiles {
                let ids: Vec<String> = page.iter().map(|u| u.as_str().to_owned()).collect();
                self.profiles.get(tenant, Collection::Users, &ids).await?
            } else {
                vec![None; page.len()]
            };
            let mut rows = 0;
            for ((user, history), profile) in page.iter().zip(histories).zip(vectors) {
                self.user(tenant, user, &history, profile).await?;
                if events {
                    rows += self.events(tenant, user, history).await?;
                }
            }
            self.rest(begun, rows).await;
        }
    }

    async fn user(
        &mut self,
        tenant: &Tenant,
        user: &UserId,
        h: &History,
        profile: Option<Vector>,
    ) -> Result<(), TransferError> {
        let profile = profile.map(|vector| Embedded {
            tenant: tenant.clone(),
            user_id: Some(user.clone()),
            message_id: None,
            item_id: None,
            revision: self.revision.clone(),
            vector,
        });
        let times = || h.messages.iter().map(|m| m.timestamp).chain(h.engagements.iter().map(|e| e.timestamp));
        let row = UserRow {
            tenant: tenant.clone(),
            user_id: user.clone(),
            messages: h.messages.len() as u64,
            engagements: h.engagements.iter().filter(|e| !e.is_message).count() as u64,
            first: times().min().unwrap_or_default(),
            last: times().max().unwrap_or_default(),
        };
        // Read while they were erased: there is nothing to say of them.
        if row.messages + row.engagements == 0 && profile.is_none() {
            return Ok(());
        }
        self.parts.put(Row::User(row), profile).await
    }

    async fn events(&mut self, tenant: &Tenant, user: &UserId, history: History) -> Result<usize, TransferError> {
        let mut rows = 0;
        for e in history.engagements.into_iter().filter(|e| !e.is_message) {
            let event = Engagement {
                tenant: tenant.clone(),
                event_id: e.id,
                user_id: user.clone(),
                item_id: e.item,
                kind: e.kind,
                value: e.value,
                timestamp: e.timestamp,
            };
            self.parts.put(Row::Event(Event::Engagement(event)), None).await?;
            rows += 1;
        }
        for m in history.messages {
            let vector = m.vector.map(|vector| Embedded {
                tenant: tenant.clone(),
                user_id: Some(user.clone()),
                message_id: Some(m.id.shared()),
                item_id: None,
                revision: self.revision.clone(),
                vector,
            });
            let event = Message {
                tenant: tenant.clone(),
                message_id: m.id,
                user_id: user.clone(),
                text: m.text,
                item_id: m.item,
                timestamp: m.timestamp,
            };
            self.parts.put(Row::Event(Event::Message(event)), vector).await?;
            rows += 1;
        }
        Ok(rows)
    }

    /// Takes out who was erased since, and writes their erasures down, until nobody is new.
    async fn forget(&mut self, mut known: HashMap<(Tenant, UserId), Timestamp>) -> Result<(), TransferError> {
        for _ in 0..ROUNDS {
            let now = self.of.erasures().await?;
            let new: HashMap<_, _> =
                now.iter().filter(|(user, t)| known.get(*user) != Some(*t)).map(|(u, t)| (u.clone(), *t)).collect();
            if new.is_empty() {
                break;
            }
            self.parts.forget(new.clone()).await?;
            if self.of.options.what.contains(&What::Events) {
                for ((tenant, user), until) in &new {
                    self.erasure(tenant, user, *until).await?;
                }
            }
            known = now;
        }
        self.parts.finish().await
    }
}
