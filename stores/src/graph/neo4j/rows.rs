//! What the driver takes and gives, as what the port speaks of.
//!
//! A weight is an `f32` kept as an `f64`, which holds it exactly; times are whole milliseconds.

use nearcast_domain::{
    ErrorKind, ItemId, StoreError, StoreResult, Timestamp, UserId,
    ports::{Edge, Neighbour},
};
use neo4rs::{BoltList, BoltNull, BoltType, Row};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::STORE;

/// Added to times on their way out: the driver reads whole numbers from -16 to -1 as 240 to 255.
pub(super) const FAR: i64 = 1 << 60;

/// An id, then weight, positive, first and last (both plus [`FAR`]).
pub(super) type Packed = (String, f64, bool, i64, i64);

pub(super) fn texts<'t>(ids: impl IntoIterator<Item = &'t str>) -> BoltType {
    list(ids.into_iter().map(BoltType::from).collect())
}

pub(super) fn list(values: Vec<BoltType>) -> BoltType {
    BoltType::List(BoltList::from(values))
}

/// A user with their edges.
pub(super) fn user_row(edges: &[&Edge]) -> BoltType {
    let user = edges.first().map_or("", |e| e.user.as_str());
    list(vec![user.into(), list(edges.iter().map(|e| edge_row(e)).collect())])
}

fn edge_row(e: &Edge) -> BoltType {
    list(vec![
        e.item.as_str().into(),
        // There is one zero only.
        f64::from(e.weight + 0.0).into(),
        e.positive.into(),
        e.first.millis().into(),
        e.last.millis().into(),
    ])
}

pub(super) fn edge(user: UserId, item: ItemId, (_, weight, positive, first, last): &Packed) -> Edge {
    let (first, last) = (Timestamp::from_millis(first - FAR), Timestamp::from_millis(last - FAR));
    Edge { user, item, weight: *weight as f32, positive: *positive, first, last }
}

pub(super) fn list_row(item: &ItemId, near: &[Neighbour]) -> BoltType {
    let near_rows = near.iter().map(|n| list(vec![n.item.as_str().into(), f64::from(n.weight).into()])).collect();
    let number = if near.is_empty() { BoltType::Null(BoltNull) } else { number(near).into() };
    list(vec![item.as_str().into(), list(near_rows), number])
}

/// A number that two different lists do not share: of a list's items and weights in their order.
pub(super) fn number(near: &[Neighbour]) -> i64 {
    let mut hash = Sha256::new();
    for n in near {
        hash.update((n.item.as_str().len() as u64).to_le_bytes());
        hash.update(n.item.as_str());
        hash.update((n.weight + 0.0).to_bits().to_le_bytes());
    }
    let first = hash.finalize().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    // Never below zero: see `FAR`.
    (first >> 1).cast_signed()
}

pub(super) fn neighbour(id: String, weight: f64) -> Neighbour {
    Neighbour { item: ItemId::trusted(id), weight: weight as f32 }
}

/// A column of a row.
pub(super) fn get<T: DeserializeOwned>(row: &Row, column: &str) -> StoreResult<T> {
    row.get(column).map_err(|e| {
        let message = format!("neo4j: {column}: {e}: what is stored is not what this program writes");
        StoreError::new(ErrorKind::Corrupt, STORE, message)
    })
}

/// A column of the first row, where there is one.
pub(super) fn first<T: DeserializeOwned>(rows: &[Row], column: &str) -> StoreResult<Option<T>> {
    rows.first().map(|row| get(row, column)).transpose()
}

/// A limit as the server takes it.
pub(super) fn whole(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
