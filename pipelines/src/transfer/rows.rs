//! What stands in the files of an export: one kind of row a data set.

use std::sync::Arc;

use nearcast_domain::{Event, ItemId, Tenant, Timestamp, UserId, Vector};
use serde::{Deserialize, Serialize};

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Messages, engagements and erasures.
    Events,
    /// The newest version of every item.
    Items,
    /// A row a user: how much they did, and when.
    Users,
    /// The profiles of the current revision.
    Profiles,
    /// The vectors of messages and items in the current revision.
    Embeddings,
}

impl What {
    /// All.
    pub const ALL: [Self; 5] = [Self::Events, Self::Items, Self::Users, Self::Profiles, Self::Embeddings];

    /// The one of a name on the command line.
    pub fn parse(name: &str) -> Option<Self> {
        let names = ["events", "items", "users", "profiles", "embeddings"];
        names.iter().position(|n| *n == name).map(|at| Self::ALL[at])
    }
}

/// A table of an export: a directory of files with the same columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dataset {
    /// Messages, engagements, erasures: `events/date=/shard=`.
    Events,
    /// Items: `items`.
    Items,
    /// Users: `users/shard=`.
    Users,
    /// Profiles: `profiles/shard=`.
    Profiles,
    /// Vectors of messages, cut and ordered as their events: `message_embeddings/date=/shard=`.
    MessageEmbeddings,
    /// Vectors of items, cut and ordered as the items: `item_embeddings`.
    ItemEmbeddings,
}

impl Dataset {
    /// The name of its directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Items => "items",
            Self::Users => "users",
            Self::Profiles => "profiles",
            Self::MessageEmbeddings => "message_embeddings",
            Self::ItemEmbeddings => "item_embeddings",
        }
    }
}

/// How files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Parquet, compressed with zstd.
    Parquet,
    /// A JSON object a line, compressed with gzip.
    Ndjson,
}

impl Encoding {
    /// How files end.
    pub const fn ending(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Ndjson => "jsonl.gz",
        }
    }
}

/// How long the time of one directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// `date=2026-01-02`
    Day,
    /// `date=2026-01`
    Month,
}

impl Cut {
    /// The directory of a time, in UTC.
    pub fn date(self, at: Timestamp) -> String {
        let text = at.to_string();
        let day = text.split_once('T').map_or(text.as_str(), |(day, _)| day);
        match self {
            Self::Day => day.to_owned(),
            Self::Month => day.rsplit_once('-').map_or(day, |(month, _)| month).to_owned(),
        }
    }
}

/// A user in sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRow {
    /// Whose customer.
    pub tenant: Tenant,
    /// Who.
    pub user_id: UserId,
    /// How many messages they wrote.
    pub messages: u64,
    /// How many engagements they have, messages about items not among them.
    pub engagements: u64,
    /// The time of their oldest event.
    pub first: Timestamp,
    /// The time of their newest event.
    pub last: Timestamp,
}

/// A vector with what it belongs to: a user (a profile), a user's message, or an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedded {
    /// Whose data.
    pub tenant: Tenant,
    /// The user of a profile or a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Arc<str>>,
    /// The item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<ItemId>,
    /// Of which model's vectors it is.
    pub revision: Arc<str>,
    /// Unit length.
    pub vector: Vector,
}

/// A row of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Of `events` and `items`.
    Event(Event),
    /// Of `users`.
    User(UserRow),
    /// Of the others.
    Embedded(Embedded),
}

impl Row {
    /// The user that it is about.
    pub fn user(&self) -> Option<(&Tenant, &UserId)> {
        match self {
            Self::Event(e) => e.user().map(|u| (e.tenant(), u)),
            Self::User(u) => Some((&u.tenant, &u.user_id)),
            Self::Embedded(e) => e.user_id.as_ref().map(|u| (&e.tenant, u)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let at = Timestamp::parse("2026-01-02T23:59:59.999Z").unwrap();
        assert_eq!((Cut::Day.date(at).as_str(), Cut::Month.date(at).as_str()), ("2026-01-02", "2026-01"));
        assert_eq!(Cut::Month.date(Timestamp::ZERO), "1970-01");
    }

    #[test]
    fn names() {
        assert_eq!(What::parse("embeddings"), Some(What::Embeddings));
        assert_eq!(What::parse("everything"), None);
    }
}
