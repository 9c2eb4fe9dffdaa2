//! The statements, with the installation's labels in them. Everything else is a parameter.
//!
//! A key is the tenant, a unit separator (no id holds a control character), and the id: one unique property, since node keys
//! are not part of every edition.
//!
//! Every write begins with the lock of its tenant's node, so the writers of a tenant go one after the other: the server takes more
//! locks of its own when it commits, and writers that met there would end in deadlocks. It also makes marks visible in the
//! order of their numbers.

use super::{config::Neo4jConfig, rows::FAR};

pub(super) struct Cypher {
    pub(super) schema: Vec<(String, String)>,
    pub(super) set_edges: String,
    pub(super) erase: String,
    pub(super) erase_user: String,
    pub(super) of_users: [String; 2],
    pub(super) of_items: [String; 2],
    pub(super) neighbours: [String; 2],
    pub(super) scan: String,
    pub(super) digest_edges: String,
    pub(super) digest_lists: String,
    pub(super) tenant: String,
    pub(super) touched: [String; 2],
    pub(super) touched_tenants: String,
    pub(super) lists: String,
    pub(super) set_lists: String,
    pub(super) settle_lists: String,
    pub(super) settle_all: String,
}

/// What every write begins with.
const LOCK: &str = "MERGE (t:{T} {name: $tenant}) SET t.locked = true WITH t ";

/// What every change of edges ends with: one mark on all items that it touched. Needs `t`, `items` and `more` (how many edges came
/// or went).
const TOUCH: &str = "SET t.mark = coalesce(t.mark, 0) + 1, t.edges = coalesce(t.edges, 0) + more WITH t.mark AS mark, items \
     UNWIND items AS i SET i.touched = mark RETURN count(i) AS touched";

impl Cypher {
    pub(super) fn new(config: &Neo4jConfig) -> Self {
        let p = &config.prefix;
        let labels = [("{U}", "User"), ("{I}", "Item"), ("{T}", "Tenant")];
        let named = |text: &str| {
            let text = text.replace("{TOUCH}", TOUCH).replace("{LOCK}", LOCK).replace("{FAR}", &FAR.to_string());
            labels.iter().fold(text, |text, (mark, label)| text.replace(mark, &format!("`{p}{label}`")))
        };
        // With a bound, and without one where everything is asked for.
        let bounded = |text: &str| [named(&text.replace("{LIMIT}", "LIMIT $limit")), named(&text.replace("{LIMIT}", ""))];
        let name = |what: &str| format!("{}_{what}", if p.is_empty() { "nearcast" } else { p });
        let constraint = |label: &str, property: &str| {
            let name = name(&format!("{}_{property}", label.to_lowercase()));
            let text = format!("CREATE CONSTRAINT `{name}` IF NOT EXISTS FOR (n:`{p}{label}`) REQUIRE n.{property} IS UNIQUE");
            (format!("constraint {name}"), text)
        };
        let marks = name("item_touched");
        let schema = vec![
            constraint("User", "key"),
            constraint("Item", "key"),
            constraint("Tenant", "name"),
            (
                format!("index {marks}"),
                format!("CREATE INDEX `{marks}` IF NOT EXISTS FOR (n:`{p}Item`) ON (n.tenant, n.touched)"),
            ),
        ];
        Self {
            schema,
            // User by user: each is looked up once, and whoever has fewer edges is asked for the pair.
            set_edges: named(
                "{LOCK} UNWIND $rows AS w \
                 MERGE (u:{U} {key: $prefix + w[0]}) ON CREATE SET u.tenant = $tenant, u.id = w[0] WITH t, u, w UNWIND w[1] AS r \
                 MERGE (i:{I} {key: $prefix + r[0]}) ON CREATE SET i.tenant = $tenant, i.id = r[0] \
                 MERGE (u)-[e:ENGAGED]->(i) WITH t, i, e, r, e.weight IS NULL AS new WHERE new OR e.weight <> r[1] \
                 OR e.positive <> r[2] OR e.first <> r[3] OR e.last <> r[4] \
                 SET e.weight = r[1], e.positive = r[2], e.first = r[3], e.last = r[4] \
                 WITH t, collect(DISTINCT i) AS items, sum(CASE WHEN new THEN 1 ELSE 0 END) AS more WHERE size(items) > 0 {TOUCH}",
            ),
            erase: named(
                "{LOCK} MATCH (u:{U} {key: $prefix + $user})-[e:ENGAGED]->(i:{I}) WITH t, e, i LIMIT $rows DELETE e \
                 WITH t, collect(i) AS items WHERE size(items) > 0 WITH t, items, -size(items) AS more {TOUCH}",
            ),
            erase_user: named("MATCH (u:{U} {key: $prefix + $user}) WHERE NOT (u)--() DELETE u"),
            of_users: bounded(
                "UNWIND range(0, size($ids) - 1) AS n MATCH (a:{U} {key: $prefix + $ids[n]}) \
                 CALL { WITH a MATCH (a)-[e:ENGAGED]->(b) WITH b.id AS id, e ORDER BY e.last DESC, id {LIMIT} \
                 RETURN collect([id, e.weight, e.positive, e.first + {FAR}, e.last + {FAR}]) AS list } RETURN n, list",
            ),
            of_items: bounded(
                "UNWIND range(0, size($ids) - 1) AS n MATCH (a:{I} {key: $prefix + $ids[n]}) \
                 CALL { WITH a MATCH (a)<-[e:ENGAGED]-(b) WITH b.id AS id, e ORDER BY e.last DESC, id {LIMIT} \
                 RETURN collect([id, e.weight, e.positive, e.first + {FAR}, e.last + {FAR}]) AS list } RETURN n, list",
            ),
            // A list is replaced in one transaction, but another may see that half done: who reads less than there is looks again.
            neighbours: bounded(
                "UNWIND range(0, size($ids) - 1) AS n MATCH (a:{I} {key: $prefix + $ids[n]}) \
                 WITH n, a, a.near AS near, a.nears AS size WHERE near IS NOT NULL \
                 CALL { WITH a, near MATCH (a)-[r:NEAR]->(b) WHERE r.list = near \
                 WITH b.id AS id, r.weight AS weight ORDER BY weight DESC, id {LIMIT} \
                 RETURN collect([id, weight]) AS list } RETURN n, size, list",
            ),
            scan: named(
                "MATCH (u:{U}) WHERE u.key STARTS WITH $prefix CALL { WITH u MATCH (u)-[e:ENGAGED]->(i) \
                 RETURN collect([i.id, e.weight, e.positive, e.first + {FAR}, e.last + {FAR}]) AS list } RETURN u.id AS id, list",
            ),
            digest_edges: named(
                "MATCH (u:{U}) CALL { WITH u MATCH (u)-[e:ENGAGED]->(i) \
                 RETURN collect([i.id, e.weight, e.positive, e.first + {FAR}, e.last + {FAR}]) AS list } \
                 RETURN u.tenant AS tenant, u.id AS id, list",
            ),
            digest_lists: named(
                "MATCH (i:{I}) WHERE i.near IS NOT NULL WITH i, i.near AS near, i.nears AS size \
                 CALL { WITH i, near MATCH (i)-[r:NEAR]->(b) WHERE r.list = near RETURN collect([b.id, r.weight]) AS list } \
                 RETURN i.tenant AS tenant, i.id AS id, size, list",
            ),
            tenant: named("MATCH (t:{T} {name: $tenant}) RETURN coalesce(t.edges, 0) AS edges, coalesce(t.mark, 0) AS mark"),
            touched: bounded(
                "MATCH (i:{I}) WHERE i.tenant = $tenant AND i.touched > 0 WITH i ORDER BY i.touched, i.id {LIMIT} \
                 RETURN collect(i.id) AS items",
            ),
            touched_tenants: named(
                "MATCH (t:{T}) WHERE EXISTS { MATCH (i:{I}) WHERE i.tenant = t.name AND i.touched > 0 } RETURN t.name AS name",
            ),
            lists: named(
                "MATCH (i:{I}) WHERE i.key STARTS WITH $prefix AND i.near IS NOT NULL RETURN i.id AS id, i.near AS near",
            ),
            // Item, neighbours, and the number that this list has among the item's lists; none for an empty one.
            set_lists: named(
                "{LOCK} UNWIND $lists AS l \
                 MERGE (i:{I} {key: $prefix + l[0]}) ON CREATE SET i.tenant = $tenant, i.id = l[0] \
                 WITH i, l CALL { WITH i MATCH (i)-[r:NEAR]->() DELETE r } \
                 SET i.near = l[2], i.nears = size(l[1]) WITH i, l UNWIND l[1] AS x \
                 MERGE (b:{I} {key: $prefix + x[0]}) ON CREATE SET b.tenant = $tenant, b.id = x[0] \
                 CREATE (i)-[:NEAR {list: l[2], weight: x[1]}]->(b)",
            ),
            settle_lists: named(
                "UNWIND $ids AS id MATCH (i:{I} {key: $prefix + id}) WHERE i.touched <= $upto REMOVE i.touched",
            ),
            settle_all: named(
                "{LOCK} MATCH (i:{I}) WHERE i.tenant = $tenant AND i.touched > 0 \
                 AND i.touched <= $upto WITH i LIMIT $rows REMOVE i.touched RETURN count(*) AS gone",
            ),
        }
    }
}
