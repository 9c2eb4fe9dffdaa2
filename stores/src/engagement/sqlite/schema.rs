//! The tables of `engagement.db`.
//!
//! An item's hours lie together, the oldest first: trending reads them as ranges and adds them up in that order.

use crate::sqlite::Schema;

pub(super) const SCHEMA: Schema = Schema {
    store: "engagement",
    application_id: 0x6e63_656e,
    migrations: &[VERSION_1, VERSION_2, VERSION_3],
    cache_kib: (16 * 1024, 4 * 1024),
};

const VERSION_1: &str = "
CREATE TABLE tenants (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, half_life REAL, share REAL) STRICT;
CREATE TABLE users (key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE (tenant, id)) STRICT;
CREATE TABLE items (key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE (tenant, id)) STRICT;

CREATE TABLE counted (user INTEGER NOT NULL, id TEXT NOT NULL, item INTEGER NOT NULL, hour INTEGER NOT NULL,
  weight INTEGER NOT NULL, PRIMARY KEY (user, id)) STRICT, WITHOUT ROWID;
CREATE TABLE totals (item INTEGER NOT NULL, hour INTEGER NOT NULL, count INTEGER NOT NULL, weight INTEGER NOT NULL,
  PRIMARY KEY (item, hour)) STRICT, WITHOUT ROWID;
CREATE TABLE labels (item INTEGER NOT NULL, category TEXT NOT NULL, PRIMARY KEY (item, category)) STRICT, WITHOUT ROWID;
CREATE INDEX labels_by_category ON labels (category);
";

/// Since when the runs of jobs stand here.
const VERSION_2: &str = "
CREATE TABLE runs (id TEXT PRIMARY KEY, job TEXT NOT NULL, tenant TEXT, started INTEGER NOT NULL, finished INTEGER,
  outcome TEXT NOT NULL, report TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX runs_by_start ON runs (started DESC, id);
";

/// Since when there are aggregates; `span` is in hours.
const VERSION_3: &str = "
CREATE TABLE aggregates (item INTEGER NOT NULL, span INTEGER NOT NULL, start INTEGER NOT NULL, events INTEGER NOT NULL,
  users INTEGER NOT NULL, weight INTEGER NOT NULL, PRIMARY KEY (item, span, start)) STRICT, WITHOUT ROWID;
CREATE INDEX aggregates_by_start ON aggregates (span, start);
";
