//! The tables of `graph.db`.
//!
//! Edges lie by user and item; two indexes give the newest of a user and of an item without sorting. A neighbour list is one row.

use crate::sqlite::Schema;

pub(super) const SCHEMA: Schema =
    Schema { store: "graph", application_id: 0x6e63_6772, migrations: &[VERSION_1], cache_kib: (16 * 1024, 8 * 1024) };

const VERSION_1: &str = "
CREATE TABLE tenants (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, edges INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE users (key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE (tenant, id)) STRICT;
CREATE TABLE items (key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE (tenant, id)) STRICT;

CREATE TABLE edges (user INTEGER NOT NULL, item INTEGER NOT NULL, weight REAL NOT NULL, positive INTEGER NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (user, item)) STRICT, WITHOUT ROWID;
CREATE INDEX edges_by_user ON edges (user, last);
CREATE INDEX edges_by_item ON edges (item, last);

CREATE TABLE neighbours (item INTEGER PRIMARY KEY, list BLOB NOT NULL) STRICT;

CREATE TABLE touched (item INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, mark INTEGER NOT NULL) STRICT;
CREATE INDEX touched_by_mark ON touched (tenant, mark);
CREATE TABLE marks (last INTEGER NOT NULL) STRICT;
INSERT INTO marks VALUES (0);
";
