//! The ports, guarded: each method is one call through [`Guarded::call`], and says what it is.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use nearcast_domain::{ItemId, StoreResult, Tenant, UserId, Vector, digest::Digest, ports::*};

use super::{core::Op, replicas::Guarded};

#[async_trait]
impl LedgerRead for Guarded<dyn LedgerRead> {
    async fn histories(
        &self,
        tenant: &Tenant,
        users: &[UserId],
        limit: HistoryLimit,
        revision: Option<&str>,
    ) -> StoreResult<Vec<History>> {
        self.call("histories", Op::Read, |p| p.histories(tenant, users, limit, revision)).await
    }

    async fn items(&self, tenant: &Tenant, items: &[ItemId], revision: Option<&str>) -> StoreResult<Vec<Option<ItemState>>> {
        self.call("items", Op::Read, |p| p.items(tenant, items, revision)).await
    }

    async fn item_vectors(&self, tenant: &Tenant, items: &[ItemId], revision: &str) -> StoreResult<Vec<Option<Vector>>> {
        self.call("item_vectors", Op::Read, |p| p.item_vectors(tenant, items, revision)).await
    }

    async fn engaged(&self, tenant: &Tenant, user: &UserId, items: &[ItemId]) -> StoreResult<Vec<bool>> {
        self.call("engaged", Op::Read, |p| p.engaged(tenant, user, items)).await
    }

    async fn pairs(&self, tenant: &Tenant, pairs: &[(UserId, ItemId)]) -> StoreResult<Vec<PairEvents>> {
        self.call("pairs", Op::Read, |p| p.pairs(tenant, pairs)).await
    }

    async fn newest_items(&self, tenant: &Tenant, category: Option<&str>, limit: usize) -> StoreResult<Vec<ItemState>> {
        self.call("newest_items", Op::Survey, |p| p.newest_items(tenant, category, limit)).await
    }

    async fn users(&self, tenant: &Tenant, prefix: &str, after: Option<&UserId>, limit: usize) -> StoreResult<Vec<UserId>> {
        self.call("users", Op::Survey, |p| p.users(tenant, prefix, after, limit)).await
    }

    async fn catalogue(
        &self,
        tenant: &Tenant,
        after: Option<&ItemId>,
        limit: usize,
        revision: Option<&str>,
    ) -> StoreResult<Vec<ItemState>> {
        self.call("catalogue", Op::Survey, |p| p.catalogue(tenant, after, limit, revision)).await
    }

    async fn tenants(&self) -> StoreResult<Vec<Tenant>> {
        self.call("tenants", Op::Read, |p| p.tenants()).await
    }

    async fn counts(&self, tenant: &Tenant) -> StoreResult<LedgerCounts> {
        self.call("counts", Op::Read, |p| p.counts(tenant)).await
    }

    async fn stale_users(&self, limit: usize) -> StoreResult<Vec<(Tenant, UserId, u64)>> {
        self.call("stale_users", Op::Bulk, |p| p.stale_users(limit)).await
    }

    async fn erasures(&self) -> StoreResult<Vec<ErasureRecord>> {
        self.call("erasures", Op::Bulk, |p| p.erasures()).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        self.call("digest", Op::Bulk, |p| p.digest()).await
    }
}

#[async_trait]
impl VectorRead for Guarded<dyn VectorRead> {
    async fn revision(&self) -> StoreResult<Option<String>> {
        self.call("revision", Op::Read, |p| p.revision()).await
    }

    async fn get(&self, tenant: &Tenant, collection: Collection, ids: &[String]) -> StoreResult<Vec<Option<Vector>>> {
        self.call("get", Op::Read, |p| p.get(tenant, collection, ids)).await
    }

    async fn search(&self, tenant: &Tenant, collection: Collection, query: VectorQuery) -> StoreResult<Vec<Hit>> {
        self.call("search", Op::Read, |p| p.search(tenant, collection, query.clone())).await
    }

    async fn count(&self, tenant: &Tenant, collection: Collection) -> StoreResult<u64> {
        self.call("count", Op::Read, |p| p.count(tenant, collection)).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        self.call("digest", Op::Bulk, |p| p.digest()).await
    }
}

#[async_trait]
impl GraphRead for Guarded<dyn GraphRead> {
    async fn edges_of_users(&self, tenant: &Tenant, users: &[UserId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        self.call("edges_of_users", Op::Read, |p| p.edges_of_users(tenant, users, limit)).await
    }

    async fn edges_of_items(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Edge>>> {
        self.call("edges_of_items", Op::Read, |p| p.edges_of_items(tenant, items, limit)).await
    }

    async fn neighbours(&self, tenant: &Tenant, items: &[ItemId], limit: usize) -> StoreResult<Vec<Vec<Neighbour>>> {
        self.call("neighbours", Op::Read, |p| p.neighbours(tenant, items, limit)).await
    }

    async fn count(&self, tenant: &Tenant) -> StoreResult<u64> {
        self.call("count", Op::Read, |p| p.count(tenant)).await
    }

    async fn scan(&self, tenant: &Tenant) -> StoreResult<Vec<Edge>> {
        self.call("scan", Op::Bulk, |p| p.scan(tenant)).await
    }

    async fn touched_tenants(&self) -> StoreResult<Vec<Tenant>> {
        self.call("touched_tenants", Op::Bulk, |p| p.touched_tenants()).await
    }

    async fn touched(&self, tenant: &Tenant, limit: usize) -> StoreResult<Touched> {
        self.call("touched", Op::Bulk, |p| p.touched(tenant, limit)).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        self.call("digest", Op::Bulk, |p| p.digest()).await
    }
}

#[async_trait]
impl EngagementRead for Guarded<dyn EngagementRead> {
    async fn trending(&self, tenant: &Tenant, query: TrendingQuery) -> StoreResult<Vec<(ItemId, f64)>> {
        self.call("trending", Op::Read, |p| p.trending(tenant, query.clone())).await
    }

    async fn hours(&self, tenant: &Tenant, limit: usize) -> StoreResult<Vec<HourTotal>> {
        self.call("hours", Op::Bulk, |p| p.hours(tenant, limit)).await
    }

    async fn trend_fit(&self, tenant: &Tenant) -> StoreResult<Option<TrendFit>> {
        self.call("trend_fit", Op::Read, |p| p.trend_fit(tenant)).await
    }

    async fn digest(&self) -> StoreResult<Digest> {
        self.call("digest", Op::Bulk, |p| p.digest()).await
    }
}

#[async_trait]
impl ResponseCache for Guarded<dyn ResponseCache> {
    async fn get(&self, key: &str) -> StoreResult<Option<CachedAnswer>> {
        self.call("get", Op::Read, |p| p.get(key)).await
    }

    async fn put(&self, key: &str, answer: CachedAnswer, ttl: Duration) -> StoreResult<()> {
        self.call("put", Op::Write, |p| p.put(key, answer.clone(), ttl)).await
    }

    async fn epoch(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        self.call("epoch", Op::Read, |p| p.epoch(tenant, user)).await
    }

    async fn bump(&self, tenant: &Tenant, users: &[UserId]) -> StoreResult<()> {
        self.call("bump", Op::Write, |p| p.bump(tenant, users)).await
    }

    async fn forget(&self, prefix: &str) -> StoreResult<u64> {
        self.call("forget", Op::Bulk, |p| p.forget(prefix)).await
    }
}

#[async_trait]
impl EventSink for Guarded<dyn EventSink> {
    async fn publish(&self, tenant: &Tenant, records: &[(String, Arc<[u8]>)]) -> StoreResult<Token> {
        self.call("publish", Op::Write, |p| p.publish(tenant, records)).await
    }

    async fn forget(&self, users: &[(Tenant, UserId)]) -> StoreResult<u64> {
        self.call("forget", Op::Bulk, |p| p.forget(users)).await
    }
}

#[async_trait]
impl Progress for Guarded<dyn Progress> {
    async fn reached(&self, token: &Token) -> StoreResult<()> {
        self.call("reached", Op::Wait, |p| p.reached(token)).await
    }

    async fn lag(&self) -> StoreResult<u64> {
        self.call("lag", Op::Read, |p| p.lag()).await
    }
}

#[async_trait]
impl DeadLetters for Guarded<dyn DeadLetters> {
    async fn put(&self, letters: &[DeadLetter]) -> StoreResult<()> {
        self.call("put", Op::Write, |p| p.put(letters)).await
    }

    async fn list(&self, filter: &DeadLetterFilter) -> StoreResult<Vec<DeadLetter>> {
        self.call("list", Op::Read, |p| p.list(filter)).await
    }

    async fn get(&self, id: &str) -> StoreResult<Option<DeadLetter>> {
        self.call("get", Op::Read, |p| p.get(id)).await
    }

    async fn remove(&self, ids: &[String]) -> StoreResult<()> {
        self.call("remove", Op::Write, |p| p.remove(ids)).await
    }

    async fn count(&self) -> StoreResult<u64> {
        self.call("count", Op::Read, |p| p.count()).await
    }

    async fn erase(&self, tenant: &Tenant, user: &UserId) -> StoreResult<u64> {
        self.call("erase", Op::Write, |p| p.erase(tenant, user)).await
    }
}

#[async_trait]
impl Embedder for Guarded<dyn Embedder> {
    async fn embed(&self, texts: &[Arc<str>], priority: Priority) -> StoreResult<Vec<Vector>> {
        // Bulk is as large as the caller made it: how long it takes says nothing.
        let op = if priority == Priority::Query { Op::Read } else { Op::Bulk };
        self.call("embed", op, |p| p.embed(texts, priority)).await
    }

    fn model(&self) -> &ModelInfo {
        self.port().model()
    }
}
