//! The ports over the small world.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Tenant, Timestamp, UserId, Vector,
    decode::{Context, decode},
    digest::Digest,
    ports::*,
};

use super::Fakes;

#[async_trait]
impl LedgerRead for Fakes {
    async fn histories(&self, t: &Tenant, users: &[UserId], limit: HistoryLimit, _: Option<&str>) -> StoreResult<Vec<History>> {
        self.call("ledger", |w| {
            Ok(users
                .iter()
                .map(|u| {
                    let mut h = w.histories.get(&(t.clone(), u.clone())).cloned().unwrap_or_default();
                    h.engagements.truncate(limit.engagements);
                    h.messages.truncate(limit.messages);
                    h
                })
                .collect())
        })
        .await
    }

    async fn items(&self, t: &Tenant, items: &[ItemId], _: Option<&str>) -> StoreResult<Vec<Option<ItemState>>> {
        self.call("ledger", |w| {
            *w.calls.entry("ledger.items").or_default() += 1;
            Ok(items.iter().map(|i| w.state(t, i)).collect())
        })
        .await
    }

    async fn engaged(&self, t: &Tenant, user: &UserId, items: &[ItemId]) -> StoreResult<Vec<bool>> {
        self.call("ledger", |w| {
            let h = w.histories.get(&(t.clone(), user.clone())).cloned().unwrap_or_default();
            Ok(items.iter().map(|i| h.engagements.iter().any(|e| e.item == *i)).collect())
        })
        .await
    }

    async fn pairs(&self, _: &Tenant, _: &[(UserId, ItemId)]) -> StoreResult<Vec<PairEvents>> {
        unimplemented!("serving never asks")
    }

    async fn newest_items(&self, t: &Tenant, category: Option<&str>, limit: usize) -> StoreResult<Vec<ItemState>> {
        self.call("ledger", |w| {
            let wanted =
                |i: &nearcast_domain::Item| !i.hidden && category.is_none_or(|c| i.categories.iter().any(|x| &**x == c));
            let mut all: Vec<_> =
                w.items.iter().filter(|((x, _), (_, i))| x == t && wanted(i)).map(|(_, v)| v.clone()).collect();
            all.sort_by_key(|(arrived, _)| std::cmp::Reverse(*arrived));
            Ok(all.into_iter().take(limit).map(|(_, item)| ItemState { item, vector: None }).collect())
        })
        .await
    }

    async fn users(&self, t: &Tenant, prefix: &str, after: Option<&UserId>, limit: usize) -> StoreResult<Vec<UserId>> {
        self.call("ledger", |w| {
            let all = w.users(t).into_iter().filter(|u| u.as_str().starts_with(prefix) && after.is_none_or(|a| u > a));
            Ok(all.take(limit).collect())
        })
        .await
    }

    async fn catalogue(
        &self,
        t: &Tenant,
        after: Option<&ItemId>,
        limit: usize,
        _: Option<&str>,
    ) -> StoreResult<Vec<ItemState>> {
        self.call("ledger", |w| {
            let all = w.items.iter().filter(|((x, i), _)| x == t && after.is_none_or(|a| i > a));
            Ok(all.take(limit).map(|(_, (_, item))| ItemState { item: item.clone(), vector: None }).collect())
        })
        .await
    }

    async fn tenants(&self) -> StoreResult<Vec<Tenant>> {
        self.call("ledger", |w| {
            let mut all: Vec<Tenant> = w.items.keys().map(|(t, _)| t.clone()).collect();
            all.dedup();
            Ok(all)
        })
        .await
    }

    async fn counts(&self, t: &Tenant) -> StoreResult<LedgerCounts> {
        self.call("ledger", |w| {
            let items = w.items.keys().filter(|(x, _)| x == t).count() as u64;
            let histories: Vec<_> = w.histories.iter().filter(|((x, _), _)| x == t).map(|(_, h)| h).collect();
            let events = histories.iter().map(|h| h.engagements.len() + h.messages.len()).sum::<usize>() as u64;
            Ok(LedgerCounts { users: histories.len() as u64, items, events })
        })
        .await
    }

    async fn stale_users(&self, _: usize) -> StoreResult<Vec<(Tenant, UserId, u64)>> {
        Ok(Vec::new())
    }

    async fn erasures(&self) -> StoreResult<Vec<ErasureRecord>> {
        Ok(Vec::new())
    }

    async fn digest(&self) -> StoreResult<Digest> {
        Ok(Digest::default())
    }
}

#[async_trait]
impl VectorRead for Fakes {
    async fn revision(&self) -> StoreResult<Option<String>> {
        let revision = self.embedder.model().revision.clone();
        self.call("vectors", |_| Ok(Some(revision))).await
    }

    async fn get(&self, t: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<Vec<Option<Vector>>> {
        self.call("vectors", |w| {
            let one = |id: &String| match collection {
                Collection::Users => w.profile(t, &UserId::trusted(id.as_str())),
                Collection::Items => {
                    let text = w.state(t, &ItemId::trusted(id.as_str()))?.item.embedding_text()?;
                    Some(self.embedder.vector(&text))
                }
            };
            Ok(ids.iter().map(one).collect())
        })
        .await
    }

    async fn search(&self, t: &Tenant, collection: Collection, q: VectorQuery) -> StoreResult<Vec<Hit>> {
        self.call("vectors", |w| {
            let rows: Vec<(String, Option<Vector>)> = match collection {
                Collection::Users => w.users(t).into_iter().map(|u| (u.as_str().to_owned(), w.profile(t, &u))).collect(),
                Collection::Items => w
                    .items
                    .iter()
                    .filter(|((x, _), (_, i))| {
                        x == t && q.label.as_ref().is_none_or(|l| i.categories.iter().any(|c| **c == **l))
                    })
                    .map(|((_, id), (_, i))| (id.as_str().to_owned(), i.embedding_text().map(|x| self.embedder.vector(&x))))
                    .collect(),
            };
            let cosine = |v: &Vector| v.iter().zip(q.vector.iter()).map(|(a, b)| a * b).sum::<f32>();
            let mut hits: Vec<Hit> = rows
                .into_iter()
                .filter(|(id, _)| !q.exclude.contains(id))
                .filter_map(|(id, v)| Some(Hit { id, score: cosine(&v?) }))
                .collect();
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
            hits.truncate(q.limit);
            Ok(hits)
        })
        .await
    }

    async fn count(&self, t: &Tenant, collection: Collection) -> StoreResult<u64> {
        self.call("vectors", |w| {
            Ok(match collection {
                Collection::Users => w.users(t).len() as u64,
                Collection::Items => w.items.len() as u64,
            })
        })
        .await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        Ok(Digest::default())
    }
}

#[async_trait]
impl GraphRead for Fakes {
    async fn edges_of_users(&self, t: &Tenant, users: &[UserId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        let cut = |mut edges: Vec<Edge>| {
            edges.truncate(limit);
            edges
        };
        self.call("graph", |w| Ok(users.iter().map(|u| cut(w.edges(t, u))).collect())).await
    }

    async fn edges_of_items(&self, _: &Tenant, _: &[ItemId], _: usize) -> StoreResult<Vec<Vec<Edge>>> {
        unimplemented!("serving never asks")
    }

    async fn neighbours(&self, t: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Neighbour>>> {
        let cut = |mut list: Vec<Neighbour>| {
            list.truncate(limit);
            list
        };
        self.call("graph", |w| Ok(items.iter().map(|i| cut(w.neighbours(t, i))).collect())).await
    }

    async fn count(&self, t: &Tenant) -> StoreResult<u64> {
        self.call("graph", |w| Ok(w.users(t).iter().map(|u| w.edges(t, u).len() as u64).sum())).await
    }

    async fn scan(&self, _: &Tenant) -> StoreResult<Vec<Edge>> {
        unimplemented!("serving never asks")
    }

    async fn touched_tenants(&self) -> StoreResult<Vec<Tenant>> {
        Ok(Vec::new())
    }

    async fn touched(&self, _: &Tenant, _: usize) -> StoreResult<Touched> {
        Ok(Touched::default())
    }

    async fn digest(&self) -> StoreResult<Digest> {
        Ok(Digest::default())
    }
}

#[async_trait]
impl EngagementRead for Fakes {
    async fn trending(&self, t: &Tenant, q: TrendingQuery) -> StoreResult<Vec<(ItemId, f64)>> {
        self.call("engagement", |w| {
            *w.calls.entry("engagement.trending").or_default() += 1;
            let mut counts = std::collections::BTreeMap::<ItemId, f64>::new();
            for ((x, _), h) in &w.histories {
                for e in h.engagements.iter().filter(|_| x == t) {
                    let state = w.state(t, &e.item);
                    let within = |c: &String| state.as_ref().is_some_and(|s| s.item.categories.iter().any(|x| **x == **c));
                    if q.category.as_ref().is_none_or(within) {
                        *counts.entry(e.item.clone()).or_default() += 1.0;
                    }
                }
            }
            let mut out: Vec<_> = counts.into_iter().collect();
            out.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            out.truncate(q.limit);
            Ok(out)
        })
        .await
    }

    async fn hours(&self, _: &Tenant, _: usize) -> StoreResult<Vec<HourTotal>> {
        unimplemented!("serving never asks")
    }

    async fn trend_fit(&self, _: &Tenant) -> StoreResult<Option<TrendFit>> {
        self.call("engagement", |_| Ok(None)).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        Ok(Digest::default())
    }
}

#[async_trait]
impl ResponseCache for Fakes {
    async fn get(&self, key: &str) -> StoreResult<Option<CachedAnswer>> {
        self.call("cache", |w| Ok(w.cache.get(key).cloned())).await
    }

    async fn put(&self, key: &str, answer: CachedAnswer, _: Duration) -> StoreResult<()> {
        self.call("cache", |w| {
            *w.calls.entry("cache.put").or_default() += 1;
            w.cache.insert(key.to_owned(), answer);
            Ok(())
        })
        .await
    }

    async fn epoch(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        self.call("cache", |w| Ok(w.epochs.get(&(tenant.clone(), user.clone())).copied().unwrap_or(0))).await
    }

    async fn bump(&self, _: &Tenant, _: &[UserId]) -> StoreResult<()> {
        unimplemented!("serving never does")
    }

    async fn forget(&self, _: &str) -> StoreResult<u64> {
        unimplemented!("serving never does")
    }
}

#[async_trait]
impl Embedder for Fakes {
    async fn embed(&self, texts: &[Arc<str>], _: Priority) -> StoreResult<Vec<Vector>> {
        self.call("embedder", |_| Ok(texts.iter().map(|t| self.embedder.vector(t)).collect())).await
    }

    fn model(&self) -> &ModelInfo {
        self.embedder.model()
    }
}

#[async_trait]
impl EventSink for Fakes {
    async fn publish(&self, tenant: &Tenant, records: &[(String, Arc<[u8]>)]) -> StoreResult<Token> {
        self.call("log", |w| {
            for (key, bytes) in records {
                w.log.push((tenant.clone(), key.clone(), bytes.to_vec()));
                let event = decode(bytes, &Context::stored(Timestamp::now())).expect("what is published can be read");
                w.apply(event);
            }
            Ok(Token(w.log.len().to_string()))
        })
        .await
    }

    async fn forget(&self, users: &[(Tenant, UserId)]) -> StoreResult<u64> {
        self.call("log", |w| {
            let before = w.log.len();
            w.log.retain(|(t, key, _)| !users.iter().any(|(tenant, user)| tenant == t && user.as_str() == key));
            Ok((before - w.log.len()) as u64)
        })
        .await
    }
}

#[async_trait]
impl Progress for Fakes {
    async fn reached(&self, token: &Token) -> StoreResult<()> {
        let at: usize = token.0.parse().map_err(|_| StoreError::new(ErrorKind::Invalid, "log", "not a token"))?;
        let ahead = self.call("log", |w| Ok(at > w.log.len())).await?;
        if ahead { std::future::pending().await } else { Ok(()) }
    }

    async fn lag(&self) -> StoreResult<u64> {
        self.call("log", |_| Ok(0)).await
    }
}

#[async_trait]
impl DeadLetters for Fakes {
    async fn put(&self, letters: &[DeadLetter]) -> StoreResult<()> {
        self.call("dead_letters", |w| {
            w.letters.extend_from_slice(letters);
            Ok(())
        })
        .await
    }

    async fn list(&self, _: &DeadLetterFilter) -> StoreResult<Vec<DeadLetter>> {
        self.call("dead_letters", |w| Ok(w.letters.clone())).await
    }

    async fn get(&self, _: &str) -> StoreResult<Option<DeadLetter>> {
        Ok(None)
    }

    async fn remove(&self, _: &[String]) -> StoreResult<()> {
        Ok(())
    }

    async fn count(&self) -> StoreResult<u64> {
        self.call("dead_letters", |w| Ok(w.letters.len() as u64)).await
    }

    async fn erase(&self, _: &Tenant, _: &UserId) -> StoreResult<u64> {
        Ok(0)
    }
}
