//! The tables of `ledger.db`.
//!
//! A user's engagements lie together in the order of time: their history is one range of one tree. Messages about an item stand
//! there too (`source` 1), so that engagements are asked for in one place. `refused` is the time of a user's newest
//! conflict. `value` holds the bits of an `f64`: SQLite writes numbers as decimals that do not always read back as the same.

use crate::sqlite::Schema;

pub(super) const SCHEMA: Schema = Schema {
    store: "ledger",
    application_id: 0x6e63_6c65,
    migrations: &[VERSION_1, VERSION_2],
    cache_kib: (24 * 1024, 8 * 1024),
};

const VERSION_1: &str = "
CREATE TABLE tenants (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
  users INTEGER NOT NULL DEFAULT 0, items INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE users (key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, refused INTEGER,
  UNIQUE (tenant, id)) STRICT;
CREATE TABLE items (key INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE (tenant, id)) STRICT;

CREATE TABLE engagements (
  user INTEGER NOT NULL, timestamp INTEGER NOT NULL, id TEXT NOT NULL, source INTEGER NOT NULL,
  item INTEGER NOT NULL, kind TEXT NOT NULL, value INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY (user, timestamp, id, source)) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX engagements_by_id ON engagements (user, id, source);
CREATE INDEX engagements_by_item ON engagements (item, user);

CREATE TABLE messages (key INTEGER PRIMARY KEY, user INTEGER NOT NULL, id TEXT NOT NULL, timestamp INTEGER NOT NULL,
  item INTEGER, text TEXT NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE UNIQUE INDEX messages_by_id ON messages (user, id);
CREATE INDEX messages_by_time ON messages (user, timestamp);

CREATE TABLE states (item INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, arrival INTEGER NOT NULL, hash BLOB NOT NULL,
  timestamp INTEGER, hidden INTEGER NOT NULL, expires_at INTEGER, text TEXT, categories TEXT NOT NULL,
  attributes TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX states_by_arrival ON states (tenant, arrival);
CREATE TABLE categories (tenant INTEGER NOT NULL, category TEXT NOT NULL, arrival INTEGER NOT NULL, item INTEGER NOT NULL,
  PRIMARY KEY (tenant, category, arrival)) STRICT, WITHOUT ROWID;
CREATE INDEX categories_by_item ON categories (item);

CREATE TABLE revisions (key INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE message_vectors (owner INTEGER NOT NULL, revision INTEGER NOT NULL, vector BLOB NOT NULL,
  UNIQUE (owner, revision)) STRICT;
CREATE TABLE item_vectors (owner INTEGER NOT NULL, revision INTEGER NOT NULL, vector BLOB NOT NULL,
  UNIQUE (owner, revision)) STRICT;

CREATE TABLE stale (user INTEGER PRIMARY KEY, mark INTEGER NOT NULL) STRICT;
CREATE INDEX stale_by_mark ON stale (mark);
CREATE TABLE marks (last INTEGER NOT NULL) STRICT;
INSERT INTO marks VALUES (0);
CREATE TABLE erasures (tenant INTEGER NOT NULL, user TEXT NOT NULL, until INTEGER NOT NULL,
  PRIMARY KEY (tenant, user)) STRICT, WITHOUT ROWID;
";

/// Since when an erasure's own time stands beside the time up to which nothing comes back.
const VERSION_2: &str = "
ALTER TABLE erasures ADD COLUMN asked INTEGER NOT NULL DEFAULT 0;
UPDATE erasures SET asked = until;
";
