//! Who proposes items. Each source is asked at once with the others and knows nothing of them.
//!
//! A source proposes what it finds, engaged or hidden or not: filters decide. It never waits for anything but the ports
//! it needs; the pipeline gives it up when its time is over.

mod graph;
mod learned;
mod newest;
mod next;
mod search;
mod similar_text;
mod similar_users;
mod trending;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, UserId, Vector,
    candidate::Source,
    ports::{Collection, Priority},
    profile::unit,
};
use tokio::time::Instant;

pub use self::{
    graph::Graph,
    learned::Learned,
    newest::{Answering, FillFrom, fill},
    next::Next,
    similar_text::SimilarText,
    similar_users::SimilarUsers,
    trending::Trending,
};
use super::{
    Query, Recommender, Session,
    bits::Bits,
    budget::Budget,
    shelf::Rising,
    tally::{Proposed, with_tally},
    through::Through,
};
use crate::memory::{self, Edges, LearnedTable, Loads, Own, TenantMemory};

/// What a source found.
#[derive(Default)]
pub struct Found {
    /// Best first. Every score above 0; no item twice.
    pub proposals: Vec<Proposed>,
    /// Through whom.
    pub through: Through,
}

impl Found {
    /// The first of what rises.
    pub fn risen(ask: &Ask<'_>, rising: &Rising) -> Self {
        let wanted = ask.on.config.sources.trending;
        let numbered = rising.numbered(&ask.mem);
        let first = numbered.iter().take(wanted);
        let proposals = first.map(|(item, score)| Proposed { item: *item, score: *score }).collect();
        Self { proposals, through: Through::Nobody }
    }
}

/// Something that proposes items.
#[async_trait]
pub trait CandidateSource: Send + Sync {
    /// Its name on every surface.
    fn source(&self) -> Source;

    /// What it proposes.
    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Found>;
}

/// The sources of every request.
pub fn all() -> Vec<Box<dyn CandidateSource>> {
    vec![Box::new(Graph), Box::new(Learned), Box::new(Next), Box::new(SimilarUsers), Box::new(SimilarText), Box::new(Trending)]
}

/// The asker's own items: number, voice, and the list that it speaks for.
pub type OwnLists = Vec<(u32, f32, Arc<[memory::Next]>)>;

/// Something read once and used by several sources.
type Once<'a, T> = Shared<BoxFuture<'a, StoreResult<T>>>;

/// Who asks, and what is known of them. The asker's own items and their vector are read when the first source wants them.
pub struct Ask<'a> {
    /// Stores, settings and memory.
    pub on: &'a Recommender,
    /// Whose data.
    pub tenant: &'a Tenant,
    /// What is remembered of it: the numbers of items are this memory's.
    pub mem: Arc<TenantMemory>,
    /// Who, unless it is a session.
    pub user: Option<&'a UserId>,
    /// The category that is asked for.
    pub category: Option<&'a Arc<str>>,
    /// The epochs of the asker and of erasures, where they are known.
    pub epochs: Option<(u64, u64)>,
    /// Whether the caller wants to know what was removed.
    pub explain: bool,
    /// What was learned, where an artefact is in service: the same for the whole request.
    pub learned: Option<Arc<LearnedTable>>,
    /// When half of the sources' time is over: what one of them can do without is waited for until then.
    pub halfway: Instant,
    /// When all of it is.
    pub deadline: Instant,
    own: Once<'a, Edges>,
    vector: Once<'a, Option<Vector>>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'a> {
    /// A user by id, known or not.
    User(&'a UserId),
    /// Someone never seen.
    Session(&'a Session),
}

impl<'a> Ask<'a> {
    /// Reads nothing yet.
    pub fn new(
        on: &'a Recommender,
        tenant: &'a Tenant,
        asker: Asker<'a>,
        query: &'a Query,
        epochs: Option<(u64, u64)>,
        budget: &Budget,
    ) -> Self {
        let (category, explain) = (query.category.as_ref(), query.explain);
        let halfway = budget.at(on.config.sources.share / 2.0);
        let deadline = budget.at(on.config.sources.share);
        let mem = on.stores.memory.tenant(tenant);
        let (user, own, vector) = match asker {
            Asker::User(user) => (
                Some(user),
                own_items(on, tenant, mem.clone(), user, deadline).boxed(),
                profile(on, tenant, mem.clone(), user, epochs, deadline).boxed(),
            ),
            Asker::Session(session) => {
                let numbers = mem.numbers(session.items.iter());
                let own = numbers.into_iter().map(|item| Own { item, weight: 1.0, positive: true }).collect();
                (None, async { Ok(Edges::given(own)) }.boxed(), session_vector(on, tenant, session).boxed())
            }
        };
        let learned = mem.learned();
        Self {
            on,
            tenant,
            mem,
            learned,
            user,
            category,
            epochs,
            explain,
            halfway,
            deadline,
            own: own.shared(),
            vector: vector.shared(),
        }
    }

    /// Reading through the memory.
    pub fn loads(&self) -> Loads<'_> {
        self.on.loads(self.tenant)
    }

    /// The asker's own items, newest first.
    pub async fn own(&self) -> StoreResult<Edges> {
        self.own.clone().await
    }

    /// The asker's own items, if they were read already; else what this process last knew of them.
    pub fn own_if_known(&self) -> Option<Edges> {
        self.own_if_read().or_else(|| self.mem.edges(self.user?, 1, true))
    }

    fn own_if_read(&self) -> Option<Edges> {
        self.own.peek().and_then(|r| r.as_ref().ok().cloned())
    }

    /// The best of what a source added up. Without what is known to be the asker's own; where the caller wants to know what was removed,
    /// with it, in order, and `explained` of them besides.
    pub fn best(&self, source: Source, through: Through, explained: usize) -> Found {
        let most = self.most();
        let own = self.own_if_read().filter(|_| self.user.is_some() && !self.on.config.recommend_engaged);
        let catalogue = self.mem.catalogue();
        let proposals = with_tally(catalogue.len(), |tally| {
            tally.hear(|hearing| {
                through.each(self.on.recency_of(source), |item, voice, _| {
                    hearing.add(item, voice);
                    0.0
                });
            });
            match own {
                Some(own) if self.explain => {
                    tally.proposals(&catalogue, &Bits::default(), explained.saturating_add(own.own.len()), true)
                }
                Some(own) => tally.proposals(&catalogue, &own.own.iter().map(|o| o.item).collect(), most, false),
                // It may become known until the pool is made.
                None => tally.proposals(&catalogue, &Bits::default(), usize::MAX, true),
            }
        });
        Found { proposals, through }
    }

    /// What follows from the asker's own items by lists of what goes with each: number, voice and list, of which so much counts.
    pub fn following(&self, source: Source, own: OwnLists, limit: usize) -> Found {
        if own.is_empty() {
            return Found::default();
        }
        // Enough once the asker's own items are taken out.
        self.best(source, Through::items(own, limit), self.most())
    }

    /// The same by lists of the artefact in service, which `own` looks up. Where nobody else writes, what was proposed before is proposed
    /// again until the asker's own items are others: their next page, or another category's, need not add it all up again.
    pub fn learned_to_follow(&self, source: Source, all: &Arc<[Own]>, own: impl FnOnce() -> OwnLists) -> Found {
        let version = self.learned.as_ref().map_or(0, |l| l.version);
        let Some(user) = self.user.filter(|_| self.mem.exclusive() && !self.explain) else {
            return self.following(source, own(), usize::MAX);
        };
        if let Some(known) = self.mem.followed(user, source).filter(|f| f.holds(all, version)) {
            return known.found();
        }
        let Found { mut proposals, through } = self.following(source, own(), usize::MAX);
        let through = through.taken_down(self.on.recency_of(source), &mut proposals);
        self.mem.keep_followed(user.clone(), source, memory::Followed { own: all.clone(), version, through: through.clone() });
        Found { proposals, through }
    }

    /// How many of a source's best go into the pool: half of what is configured where learned lists bring theirs beside the others. NDCG@10
    /// with half and with all on MovieLens and Amazon office: 0.1711 and 0.1713, 0.1200 and 0.1199.
    pub fn most(&self) -> usize {
        let configured = self.on.config.sources.candidates;
        if self.learned.is_some() { configured.div_ceil(2) } else { configured }
    }

    /// Whether a vector stands for the asker, as far as it was read already.
    pub fn has_vector(&self) -> bool {
        matches!(self.vector.peek(), Some(Ok(Some(_))))
    }

    /// The vector that stands for the asker.
    pub async fn vector(&self) -> StoreResult<Option<Vector>> {
        self.vector.clone().await
    }
}

async fn own_items(
    on: &Recommender,
    tenant: &Tenant,
    mem: Arc<TenantMemory>,
    user: &UserId,
    deadline: Instant,
) -> StoreResult<Edges> {
    let limit = on.config.sources.known_items;
    // Where others write too, the asker's own are always read: an event of theirs shows in the next answer.
    if mem.exclusive()
        && let Some(known) = mem.edges(user, limit, false)
    {
        return Ok(known);
    }
    on.loads(tenant).edges(&mem, user, limit, deadline).await
}

async fn profile(
    on: &Recommender,
    tenant: &Tenant,
    mem: Arc<TenantMemory>,
    user: &UserId,
    epochs: Option<(u64, u64)>,
    deadline: Instant,
) -> StoreResult<Option<Vector>> {
    // The index of this process answers at once; another's is asked again when the user's epoch has moved.
    let remembers = !mem.exclusive() && epochs.is_some();
    let most = Duration::from_millis(on.config.sources.near_fresh_ms);
    if remembers && let Some(known) = mem.profile(user, epochs, most) {
        return Ok(known);
    }
    let (vectors, tenant, user) = (on.stores.vectors.clone(), tenant.clone(), user.clone());
    let work = async move {
        let ids = [user.as_str().to_owned()];
        let read = vectors.get(&tenant, Collection::Users, &ids).await?.into_iter().next().flatten();
        if remembers {
            mem.keep_profile(user, read.clone(), epochs);
        }
        Ok(read)
    };
    on.late.run(deadline, "vectors", work).await
}

/// The mean of the vectors of the session's items and of its text.
async fn session_vector(on: &Recommender, tenant: &Tenant, session: &Session) -> StoreResult<Option<Vector>> {
    let text = async {
        match &session.text {
            Some(text) => embed(on, text).await.map(Some),
            None => Ok(None),
        }
    };
    let ids: Vec<String> = session.items.iter().map(|i| i.as_str().to_owned()).collect();
    let items =
        async { if ids.is_empty() { Ok(Vec::new()) } else { on.stores.vectors.get(tenant, Collection::Items, &ids).await } };
    let (text, items) = futures_util::try_join!(text, items)?;
    let items: Vec<Vector> = items.into_iter().flatten().collect();
    let parts: Vec<Vector> = mean(&items).into_iter().chain(text).collect();
    Ok(mean(&parts))
}

/// The vector of a text, comparable with what is stored.
pub async fn embed(on: &Recommender, text: &Arc<str>) -> StoreResult<Vector> {
    let embedder = &on.stores.embedder;
    if on.stores.vectors.revision().await?.is_some_and(|r| r != embedder.model().revision) {
        return Err(StoreError::new(ErrorKind::Unavailable, "embedder", "the index holds vectors of another model"));
    }
    let vectors = embedder.embed(std::slice::from_ref(text), Priority::Query).await?;
    vectors.into_iter().next().ok_or_else(|| StoreError::new(ErrorKind::Unavailable, "embedder", "gave no vector"))
}

fn mean(vectors: &[Vector]) -> Option<Vector> {
    let mut sum = vec![0.0_f64; vectors.first()?.len()];
    let dimension = sum.len();
    for v in vectors.iter().filter(|v| v.len() == dimension) {
        for (s, x) in sum.iter_mut().zip(v.iter()) {
            *s += f64::from(*x);
        }
    }
    unit(&sum)
}
