//! `/items` and `/trending`: the catalogue, what stands next to an item, and what rises.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri},
};
use futures_util::future::join;
use nearcast_domain::{
    ItemId,
    candidate::Source,
    decode::MAX_TEXT_BYTES,
    ports::{Collection, VectorQuery},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    params::{Caller, Params, PathItem},
    problem::Problem,
    shared::{ItemCard, ItemView, MAX_PAGE, Missing, ScoredItem, shown, soon},
};
use crate::{config::MAX_K, recommend::sources};

/// A page of the catalogue, or what a search found.
#[derive(Debug, Serialize, ToSchema)]
pub struct ItemPage {
    /// By id, or the best first for a search.
    items: Vec<ItemCard>,
    /// Give this as `after` to go on; null at the end.
    #[schema(value_type = Option<String>)]
    next: Option<ItemId>,
    /// What did not answer.
    #[schema(value_type = Vec<String>)]
    degraded: Vec<&'static str>,
}

/// The catalogue
///
/// In pages by id, hidden items left out; with `q`, the items whose text is nearest to it.
#[utoipa::path(get, path = "/items", tag = "items",
    params(
        ("q" = Option<String>, Query, description = "A text to search by meaning"),
        ("category" = Option<String>, Query, description = "Only items of this category"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "How many; 50 where it is not given"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = ItemPage), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn list(State(app): State<Arc<App>>, Caller(tenant): Caller, uri: Uri) -> Result<Json<ItemPage>, Problem> {
    let p = Params::read(&uri, &["q", "category", "limit", "after"])?;
    let (limit, category) = (p.number("limit", 1..=MAX_PAGE)?.unwrap_or(50), p.category()?);
    let after = p.id("after", ItemId::parse)?;
    let (r, mut missing) = (&app.recommender(), Missing::default());
    if let Some(q) = p.one("q")?.filter(|q| !q.trim().is_empty()) {
        if q.len() > MAX_TEXT_BYTES {
            return Err(Problem::parameter("q", "is too long", format!("at most {MAX_TEXT_BYTES} bytes")));
        }
        let text: Arc<str> = q.into();
        let hits = soon("vectors", async {
            let vector = sources::embed(r, &text).await?;
            let label = category.map(|c| c.as_ref().to_owned());
            r.stores.vectors.search(&tenant, Collection::Items, VectorQuery { vector, limit, label, exclude: Vec::new() }).await
        });
        let hits = missing.or_default(Source::SimilarText.name(), hits.await);
        let hits = hits.into_iter().map(|h| (ItemId::trusted(h.id), h.score)).collect();
        let items = shown(&app, &tenant, hits, &mut missing).await.into_iter().map(|s| s.item).collect();
        return Ok(Json(ItemPage { items, next: None, degraded: missing.0 }));
    }
    let page = soon("ledger", r.stores.ledger.catalogue(&tenant, after.as_ref(), limit, None)).await;
    let page = missing.or_default("ledger", page);
    let next = (page.len() == limit).then(|| page.last().map(|s| s.item.item_id.clone())).flatten();
    let items = page
        .into_iter()
        .map(|s| s.item)
        .filter(|i| !i.hidden && category.as_ref().is_none_or(|c| i.categories.contains(c)))
        .map(|i| ItemCard { item_id: i.item_id, text: i.text.as_ref().map(crate::memory::shortened), categories: i.categories })
        .collect();
    Ok(Json(ItemPage { items, next, degraded: missing.0 }))
}

/// An item
#[utoipa::path(get, path = "/items/{item}", tag = "items",
    params(
        ("item" = String, Path, description = "The item's id", max_length = 256),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = ItemView), (status = 400, body = Problem, content_type = "application/problem+json"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub async fn one(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    PathItem(item): PathItem,
    uri: Uri,
) -> Result<Json<ItemView>, Problem> {
    Params::read(&uri, &[])?;
    let found = soon("ledger", app.recommender().stores.ledger.items(&tenant, std::slice::from_ref(&item), None)).await;
    let found = found.map_err(|e| Problem::store(&e, "the item cannot be read just now"))?;
    let state = found.into_iter().next().flatten();
    state.map(|s| Json(s.into())).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such item"))
}

/// What one source says of a near item.
#[derive(Debug, Serialize, ToSchema)]
pub struct NearReason {
    /// `graph` or `similar_text`.
    #[schema(value_type = String)]
    source: Source,
    /// Comparable within the source: closeness by co-engagement, or cosine.
    score: f32,
}

/// An item near another.
#[derive(Debug, Serialize, ToSchema)]
pub struct NearItem {
    /// The item.
    #[serde(flatten)]
    item: ScoredItem,
    /// Who says so.
    reasons: Vec<NearReason>,
}

/// Items near an item.
#[derive(Debug, Serialize, ToSchema)]
pub struct NearItems {
    /// Whose neighbours.
    #[schema(value_type = String)]
    item_id: ItemId,
    /// The nearest first.
    similar: Vec<NearItem>,
    /// What did not answer.
    #[schema(value_type = Vec<String>)]
    degraded: Vec<&'static str>,
}

/// Items like this one
///
/// By who engaged with both, and by text. The score is the mean of the two, each relative to its best.
#[utoipa::path(get, path = "/items/{item}/similar", tag = "items",
    params(
        ("item" = String, Path, description = "The item's id", max_length = 256),
        ("k" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many; 10 where it is not given"),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = NearItems), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn similar(
    State(app): State<Arc<App>>,
    Caller(tenant): Caller,
    PathItem(item): PathItem,
    uri: Uri,
) -> Result<Json<NearItems>, Problem> {
    let k = Params::read(&uri, &["k"])?.number("k", 1..=MAX_K)?.unwrap_or(app.recommender().config().default_k);
    let stores = &app.recommender().stores;
    // Twice as many as wanted: some may not be shown.
    let limit = 2 * k;
    let graph = soon("graph", stores.graph.neighbours(&tenant, std::slice::from_ref(&item), limit));
    let text = soon("vectors", async {
        let own = stores.vectors.get(&tenant, Collection::Items, &[item.as_str().to_owned()]).await?;
        let Some(vector) = own.into_iter().next().flatten() else { return Ok(Vec::new()) };
        let query = VectorQuery { vector, limit, label: None, exclude: vec![item.as_str().to_owned()] };
        stores.vectors.search(&tenant, Collection::Items, query).await
    });
    let (graph, text) = join(graph, text).await;
    let mut missing = Missing::default();
    let graph = missing.or_default(Source::Graph.name(), graph).into_iter().next().unwrap_or_default();
    let graph: Vec<(ItemId, f32)> = graph.into_iter().map(|n| (n.item, n.weight)).collect();
    let text = missing.or_default(Source::SimilarText.name(), text);
    let text: Vec<(ItemId, f32)> = text.into_iter().map(|h| (ItemId::trusted(h.id), h.score)).filter(|h| h.1 > 0.0).collect();

    let mut reasons: HashMap<ItemId, Vec<NearReason>> = HashMap::new();
    let mut scores: HashMap<ItemId, f32> = HashMap::new();
    let voices = [&graph, &text].iter().filter(|l| !l.is_empty()).count().max(1) as f32;
    for (source, list) in [(Source::Graph, &graph), (Source::SimilarText, &text)] {
        let best = list.iter().map(|(_, s)| *s).fold(0.0, f32::max);
        for (near, score) in list {
            *scores.entry(near.clone()).or_default() += score / best / voices;
            reasons.entry(near.clone()).or_default().push(NearReason { source, score: *score });
        }
    }
    let mut ranked: Vec<(ItemId, f32)> = scores.into_iter().collect();
    ranked.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut items = shown(&app, &tenant, ranked, &mut missing).await;
    items.truncate(k);
    let near = |item: ScoredItem| NearItem { reasons: reasons.remove(&item.item.item_id).unwrap_or_default(), item };
    Ok(Json(NearItems { item_id: item, similar: items.into_iter().map(near).collect(), degraded: missing.0 }))
}

/// What rises.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rising {
    /// The strongest first.
    trending: Vec<ScoredItem>,
    /// What did not answer.
    #[schema(value_type = Vec<String>)]
    degraded: Vec<&'static str>,
}

/// What rises now
///
/// Engagements, each counting half after the half-life that fits the catalogue.
#[utoipa::path(get, path = "/trending", tag = "items",
    params(
        ("k" = Option<u32>, Query, minimum = 1, maximum = 100, description = "How many; 10 where it is not given"),
        ("category" = Option<String>, Query, description = "Only items of this category"),
        ("X-Tenant" = Option<String>, Header, description = "Whose data; `default` where it is not given")),
    responses((status = 200, body = Rising), (status = 400, body = Problem, content_type = "application/problem+json")))]
pub async fn trending(State(app): State<Arc<App>>, Caller(tenant): Caller, uri: Uri) -> Result<Json<Rising>, Problem> {
    let p = Params::read(&uri, &["k", "category"])?;
    let k = p.number("k", 1..=MAX_K)?.unwrap_or(app.recommender().config().default_k);
    let category = p.category()?;
    let (r, mut missing) = (&app.recommender(), Missing::default());
    let list = match soon("engagement", r.shelf.rising(&tenant, category.as_ref(), None)).await {
        Ok(list) => list,
        Err(e) => {
            missing.or_default::<()>(Source::Trending.name(), Err(e));
            r.shelf.last_rising(&tenant, category.as_ref()).await
        }
    };
    let mut trending = shown(&app, &tenant, list.items.clone(), &mut missing).await;
    trending.retain(|s| category.as_ref().is_none_or(|c| s.item.categories.contains(c)));
    trending.truncate(k);
    Ok(Json(Rising { trending, degraded: missing.0 }))
}
