//! Who proposes items. Each source is asked at once with the others and knows nothing of them.
//!
//! A source proposes what it finds, engaged or hidden or not: filters decide. It never waits for anything but the ports
//! it needs; the pipeline gives it up when its time is over.

mod graph;
mod newest;
mod similar_text;
mod similar_users;
mod trending;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, UserId, Vector,
    candidate::{Proposal, Source},
    ports::{Collection, Priority},
    profile::unit,
};
use tokio::time::Instant;

pub use self::{
    graph::Graph,
    newest::{Answering, FillFrom, fill},
    similar_text::SimilarText,
    similar_users::SimilarUsers,
    trending::Trending,
};
use super::{Recommender, Session, budget::Budget};

/// Something that proposes items.
#[async_trait]
pub trait CandidateSource: Send + Sync {
    /// Its name on every surface.
    fn source(&self) -> Source;

    /// What it proposes, best first. Every score above 0; no item twice.
    async fn propose(&self, ask: &Ask<'_>) -> StoreResult<Vec<Proposal>>;
}

/// The sources of every request.
pub fn all() -> Vec<Box<dyn CandidateSource>> {
    vec![Box::new(Graph), Box::new(SimilarUsers), Box::new(SimilarText), Box::new(Trending)]
}

/// An item of the asker's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    /// Which.
    pub item: ItemId,
    /// How strongly they engaged with it.
    pub weight: f32,
    /// Whether they liked it: only then does it propose others.
    pub positive: bool,
}

/// Something read once and used by several sources.
type Once<'a, T> = Shared<BoxFuture<'a, StoreResult<T>>>;

/// Who asks, and what is known of them. The asker's own items and their vector are read when the first source wants them.
pub struct Ask<'a> {
    /// Stores, settings and memory.
    pub on: &'a Recommender,
    /// Whose data.
    pub tenant: &'a Tenant,
    /// Who, unless it is a session.
    pub user: Option<&'a UserId>,
    /// The category that is asked for.
    pub category: Option<&'a Arc<str>>,
    /// When half of the sources' time is over: what one of them can do without is waited for until then.
    pub halfway: Instant,
    own: Once<'a, Arc<Vec<Own>>>,
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
        category: Option<&'a Arc<str>>,
        budget: &Budget,
    ) -> Self {
        let halfway = budget.at(on.config.sources.share / 2.0);
        let (user, own, vector) = match asker {
            Asker::User(user) => (Some(user), own_items(on, tenant, user).boxed(), profile(on, tenant, user).boxed()),
            Asker::Session(session) => {
                let own = session.items.iter().map(|item| Own { item: item.clone(), weight: 1.0, positive: true }).collect();
                (None, async { Ok(Arc::new(own)) }.boxed(), session_vector(on, tenant, session).boxed())
            }
        };
        Self { on, tenant, user, category, halfway, own: own.shared(), vector: vector.shared() }
    }

    /// The asker's own items, newest first.
    pub async fn own(&self) -> StoreResult<Arc<Vec<Own>>> {
        self.own.clone().await
    }

    /// The asker's own items, if they were read already.
    pub fn own_if_known(&self) -> Option<Arc<Vec<Own>>> {
        self.own.peek().and_then(|r| r.as_ref().ok().cloned())
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

async fn own_items(on: &Recommender, tenant: &Tenant, user: &UserId) -> StoreResult<Arc<Vec<Own>>> {
    let found = on.stores.graph.edges_of_users(tenant, std::slice::from_ref(user), on.config.sources.known_items).await?;
    let edges = found.into_iter().next().unwrap_or_default();
    Ok(Arc::new(edges.into_iter().map(|e| Own { item: e.item, weight: e.weight, positive: e.positive }).collect()))
}

async fn profile(on: &Recommender, tenant: &Tenant, user: &UserId) -> StoreResult<Option<Vector>> {
    let ids = [user.as_str().to_owned()];
    Ok(on.stores.vectors.get(tenant, Collection::Users, &ids).await?.into_iter().next().flatten())
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
