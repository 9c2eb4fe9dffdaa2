//! The statements, with the schema's name in them. Everything else is a parameter.
//!
//! Rows are written in the order of their keys, counted ids before totals, so that two workers wait for each other instead of
//! ending in a deadlock.

use std::sync::Arc;

pub(super) struct Statements {
    pub(super) schema: String,
    pub(super) record: Arc<str>,
    pub(super) take_back: Arc<str>,
    pub(super) drop_empty: Arc<str>,
    pub(super) set_labels: Arc<str>,
    pub(super) set_fit: Arc<str>,
    pub(super) fit: Arc<str>,
    pub(super) newest: Arc<str>,
    pub(super) lifelong: [Arc<str>; 2],
    pub(super) decayed: [Arc<str>; 2],
    pub(super) hours: Arc<str>,
    pub(super) all_totals: Arc<str>,
    pub(super) all_counted: Arc<str>,
    pub(super) all_labels: Arc<str>,
    pub(super) set_run: Arc<str>,
    pub(super) runs: Arc<str>,
    pub(super) partitions: Arc<str>,
    pub(super) tenant_totals: Arc<str>,
    pub(super) tenant_counted: Arc<str>,
    pub(super) tenant_labels: Arc<str>,
    pub(super) counted_users: Arc<str>,
    pub(super) labelled_items: Arc<str>,
    pub(super) clear_totals: Arc<str>,
    pub(super) count_again: Arc<str>,
}

/// The part of a statement that keeps to a category, given as the second parameter.
const IN_CATEGORY: &str = "JOIN {S}.labels l ON l.tenant = t.tenant AND l.item = t.item AND l.categories @> ARRAY[$2::text]";

impl Statements {
    pub(super) fn new(schema: &str) -> Self {
        let text = |sql: &str| -> Arc<str> { sql.replace("{S}", &format!("\"{schema}\"")).into() };
        // The second parameter is a category, or nothing.
        let both = |sql: &str| {
            [
                text(&sql.replace("{IN}", "").replace("{AND}", "AND $2::text IS NULL")),
                text(&sql.replace("{IN}", IN_CATEGORY).replace("{AND}", "")),
            ]
        };
        Self {
            schema: schema.to_owned(),
            // What is counted already, by whoever, changes nothing: only fresh ids reach the totals, in the same transaction.
            record: text(
                "WITH fresh AS (INSERT INTO {S}.counted (tenant, user_id, id, item, hour, weight) \
                 SELECT $1, g.user_id, g.id, g.item, g.hour, g.weight \
                 FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[]) AS g (user_id, id, item, hour, weight) \
                 ORDER BY g.user_id COLLATE \"C\", g.id COLLATE \"C\" ON CONFLICT DO NOTHING RETURNING item, hour, weight) \
                 INSERT INTO {S}.totals AS t (tenant, item, hour, count, weight) \
                 SELECT $1, item, hour, count(*), sum(weight)::bigint FROM fresh GROUP BY item, hour ORDER BY item, hour \
                 ON CONFLICT (tenant, item, hour) DO UPDATE SET count = t.count + excluded.count, weight = t.weight + excluded.weight",
            ),
            // By the same path, with the sign turned: rows are locked in the same order.
            take_back: text(
                "WITH gone AS (DELETE FROM {S}.counted WHERE tenant = $1 AND user_id = $2 RETURNING item, hour, weight), \
                 less AS (INSERT INTO {S}.totals AS t (tenant, item, hour, count, weight) \
                 SELECT $1, item, hour, -count(*), -sum(weight)::bigint FROM gone GROUP BY item, hour ORDER BY item, hour \
                 ON CONFLICT (tenant, item, hour) DO UPDATE SET count = t.count + excluded.count, weight = t.weight + excluded.weight \
                 RETURNING item, hour, count) \
                 SELECT (SELECT count(*) FROM gone), array_agg(item) FILTER (WHERE count <= 0), \
                 array_agg(hour) FILTER (WHERE count <= 0) FROM less",
            ),
            drop_empty: text(
                "DELETE FROM {S}.totals t USING unnest($2::text[], $3::bigint[]) AS e (item, hour) \
                 WHERE t.tenant = $1 AND t.item = e.item AND t.hour = e.hour AND t.count <= 0",
            ),
            // One row an item, so that two writers replace each other's categories whole. They come joined, since arrays of
            // arrays must have equal lengths; no category holds a control character.
            set_labels: text(
                "INSERT INTO {S}.labels AS l (tenant, item, categories) \
                 SELECT $1, g.item, string_to_array(nullif(g.categories, ''), E'\\x1f') \
                 FROM unnest($2::text[], $3::text[]) AS g (item, categories) ORDER BY g.item COLLATE \"C\" \
                 ON CONFLICT (tenant, item) DO UPDATE SET categories = excluded.categories \
                 WHERE l.categories IS DISTINCT FROM excluded.categories",
            ),
            set_fit: text(
                "INSERT INTO {S}.fits (tenant, half_life, share) VALUES ($1, $2, $3) \
                 ON CONFLICT (tenant) DO UPDATE SET half_life = excluded.half_life, share = excluded.share",
            ),
            fit: text("SELECT half_life, share FROM {S}.fits WHERE tenant = $1"),
            newest: text("SELECT hour FROM {S}.totals WHERE tenant = $1 ORDER BY hour DESC LIMIT 1"),
            lifelong: both(
                "SELECT t.item, sum(t.weight)::bigint AS steps FROM {S}.totals t {IN} WHERE t.tenant = $1 {AND} \
                 GROUP BY t.item ORDER BY steps DESC, t.item LIMIT $3",
            ),
            decayed: both(
                "SELECT t.item, array_agg(t.hour ORDER BY t.hour), array_agg(t.weight ORDER BY t.hour) \
                 FROM {S}.totals t {IN} WHERE t.tenant = $1 {AND} GROUP BY t.item",
            ),
            hours: text(
                "SELECT hour, item, count, weight FROM {S}.totals WHERE tenant = $1 ORDER BY hour DESC, item DESC LIMIT $2",
            ),
            all_totals: text("SELECT tenant, item, hour, count, weight FROM {S}.totals"),
            all_counted: text("SELECT tenant, user_id, id, item, hour, weight FROM {S}.counted"),
            all_labels: text("SELECT DISTINCT tenant, item, unnest(categories) FROM {S}.labels"),
            set_run: text(
                "INSERT INTO {S}.runs (id, job, tenant, started, finished, outcome, report) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb) ON CONFLICT (id) DO UPDATE SET job = excluded.job, \
                 tenant = excluded.tenant, started = excluded.started, finished = excluded.finished, \
                 outcome = excluded.outcome, report = excluded.report",
            ),
            runs: text(
                "SELECT id, job, tenant, started, finished, outcome, report::text FROM {S}.runs \
                 WHERE $1::text IS NULL OR job = $1 ORDER BY started DESC, id LIMIT $2",
            ),
            tenant_totals: text("SELECT item, hour, count, weight FROM {S}.totals WHERE tenant = $1"),
            tenant_counted: text("SELECT user_id, id, item, hour, weight FROM {S}.counted WHERE tenant = $1"),
            tenant_labels: text("SELECT DISTINCT item, unnest(categories) FROM {S}.labels WHERE tenant = $1"),
            counted_users: text("SELECT DISTINCT user_id FROM {S}.counted WHERE tenant = $1 ORDER BY user_id"),
            labelled_items: text("SELECT item FROM {S}.labels WHERE tenant = $1 AND categories IS NOT NULL ORDER BY item"),
            clear_totals: text("DELETE FROM {S}.totals WHERE tenant = $1"),
            count_again: text(
                "INSERT INTO {S}.totals (tenant, item, hour, count, weight) SELECT tenant, item, hour, count(*), \
                 sum(weight)::bigint FROM {S}.counted WHERE tenant = $1 GROUP BY tenant, item, hour",
            ),
            // The partitions of a table.
            partitions: text(
                "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = to_regclass($1)",
            ),
        }
    }

    /// A table of the schema, as statements name it.
    pub(super) fn table(&self, name: &str) -> String {
        format!("\"{}\".\"{name}\"", self.schema)
    }
}
