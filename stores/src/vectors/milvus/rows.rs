//! Rows as columns and back. A vector comes back with the bits it was given.

use std::collections::HashMap;

use milvus::v2::FieldData;
use nearcast_domain::{ErrorKind, StoreError, StoreResult, Tenant, Vector, ports::VectorRow};

use super::names::key;

/// Primary key: [`key`].
pub(super) const KEY: &str = "key";
/// Partition key.
pub(super) const TENANT: &str = "tenant";
/// User or item id.
pub(super) const ID: &str = "id";
/// Labels.
pub(super) const LABELS: &str = "labels";
/// The vector.
pub(super) const VECTOR: &str = "vector";

/// Rows of a tenant, each id once: the last of equal ids stands.
pub(super) fn distinct(rows: &[VectorRow]) -> Vec<&VectorRow> {
    let last: HashMap<&str, usize> = rows.iter().enumerate().map(|(i, r)| (r.id.as_str(), i)).collect();
    rows.iter().enumerate().filter(|(i, r)| last.get(r.id.as_str()) == Some(i)).map(|(_, r)| r).collect()
}

/// The rows in parts of at most so many bytes, or of one row.
pub(super) fn batches<'a>(rows: &'a [&'a VectorRow], bytes: usize) -> Vec<&'a [&'a VectorRow]> {
    let size = |r: &VectorRow| 96 + r.id.len() + 4 * r.vector.len() + r.labels.iter().map(|l| l.len() + 4).sum::<usize>();
    let (mut parts, mut from, mut sum) = (Vec::new(), 0, 0);
    for (i, row) in rows.iter().enumerate() {
        let own = size(row);
        if i > from && sum + own > bytes {
            parts.push(&rows[from..i]);
            (from, sum) = (i, 0);
        }
        sum += own;
    }
    if from < rows.len() {
        parts.push(&rows[from..]);
    }
    parts
}

/// The columns of rows of a tenant.
pub(super) fn columns(tenant: &Tenant, rows: &[&VectorRow]) -> Vec<FieldData> {
    vec![
        FieldData::varchar(KEY, rows.iter().map(|r| key(tenant, &r.id)).collect()),
        FieldData::varchar(TENANT, vec![tenant.as_str().to_owned(); rows.len()]),
        FieldData::varchar(ID, rows.iter().map(|r| r.id.clone()).collect()),
        FieldData::array_varchar(LABELS, rows.iter().map(|r| r.labels.clone()).collect()),
        FieldData::float_vector(VECTOR, rows.iter().map(|r| r.vector.to_vec()).collect()),
    ]
}

/// A column of texts of a result.
pub(super) fn texts<'a>(fields: &'a [FieldData], name: &str) -> StoreResult<&'a [String]> {
    field(fields, name)?.as_varchar().ok_or_else(|| malformed(name))
}

/// A column of lists of texts.
pub(super) fn lists<'a>(fields: &'a [FieldData], name: &str) -> StoreResult<&'a [Vec<String>]> {
    field(fields, name)?.as_array_varchar().ok_or_else(|| malformed(name))
}

/// A column of vectors.
pub(super) fn vectors(fields: &[FieldData]) -> StoreResult<&[Vec<f32>]> {
    field(fields, VECTOR)?.as_float_vectors().ok_or_else(|| malformed(VECTOR))
}

/// A vector as the port has it.
pub(super) fn vector(values: &[f32]) -> Vector {
    values.iter().copied().collect()
}

fn field<'a>(fields: &'a [FieldData], name: &str) -> StoreResult<&'a FieldData> {
    fields.iter().find(|f| f.name() == name).map(FieldData::inner).ok_or_else(|| malformed(name))
}

fn malformed(name: &str) -> StoreError {
    StoreError::new(
        ErrorKind::Corrupt,
        "vectors",
        format!("an answer of Milvus lacks the column `{name}`, or it is of another type"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> VectorRow {
        VectorRow { id: id.into(), vector: vec![1.0].into(), labels: vec![] }
    }

    #[test]
    fn batches_hold_every_row_once() {
        let rows: Vec<VectorRow> = (0..100).map(|i| row(&"x".repeat(i))).collect();
        let rows: Vec<&VectorRow> = rows.iter().collect();
        for bytes in [1, 150, 1000, 1 << 20] {
            let parts = batches(&rows, bytes);
            assert_eq!(parts.concat(), rows);
            assert!(parts.iter().all(|p| !p.is_empty()));
        }
        assert_eq!((batches(&rows, 1).len(), batches(&rows, 1 << 20).len(), batches(&[], 9).len()), (100, 1, 0));
    }

    #[test]
    fn the_last_of_equal_ids_stands() {
        let rows = [row("a"), row("b"), VectorRow { labels: vec!["l".into()], ..row("a") }];
        let kept = distinct(&rows);
        assert_eq!(kept, [&rows[1], &rows[2]]);
    }
}
