//! The rows that each store's digest is made of: every backend adds the same bytes for the same fact.
//!
//! Only facts stand here. Marks, positions, fitted numbers and keys of a store's own never do.

use crate::{
    Timestamp,
    digest::Digest,
    event::ContentHash,
    ports::{Edge, Neighbour},
};

impl Digest {
    /// A message or an engagement of the ledger: `kind` is [`crate::Event::type_name`].
    pub fn add_event(&mut self, kind: &str, tenant: &str, user: &str, id: &str, hash: &ContentHash) {
        self.add(&[b"event", kind.as_bytes(), tenant.as_bytes(), user.as_bytes(), id.as_bytes(), hash]);
    }

    /// The vector of a message, as [`crate::digest::vector_bytes`].
    pub fn add_message_vector(&mut self, revision: &str, tenant: &str, user: &str, id: &str, vector: &[u8]) {
        self.add(&[b"message vector", revision.as_bytes(), tenant.as_bytes(), user.as_bytes(), id.as_bytes(), vector]);
    }

    /// The newest version of an item.
    pub fn add_item(&mut self, tenant: &str, item: &str, hash: &ContentHash) {
        self.add(&[b"item", tenant.as_bytes(), item.as_bytes(), hash]);
    }

    /// The vector of an item, as [`crate::digest::vector_bytes`].
    pub fn add_item_vector(&mut self, revision: &str, tenant: &str, item: &str, vector: &[u8]) {
        self.add(&[b"item vector", revision.as_bytes(), tenant.as_bytes(), item.as_bytes(), vector]);
    }

    /// That someone was erased.
    pub fn add_erasure(&mut self, tenant: &str, user: &str, until: Timestamp) {
        self.add(&[b"erasure", tenant.as_bytes(), user.as_bytes(), &until.millis().to_le_bytes()]);
    }

    /// An edge of the graph.
    pub fn add_edge(&mut self, tenant: &str, edge: &Edge) {
        self.add(&[
            b"edge",
            tenant.as_bytes(),
            edge.user.as_str().as_bytes(),
            edge.item.as_str().as_bytes(),
            &edge.weight.to_le_bytes(),
            &[u8::from(edge.positive)],
            &edge.first.millis().to_le_bytes(),
            &edge.last.millis().to_le_bytes(),
        ]);
    }

    /// A neighbour list of the graph. An empty one is no row.
    pub fn add_neighbours(&mut self, tenant: &str, item: &str, list: &[Neighbour]) {
        let weights: Vec<[u8; 4]> = list.iter().map(|n| n.weight.to_le_bytes()).collect();
        let mut fields: Vec<&[u8]> = vec![b"neighbours", tenant.as_bytes(), item.as_bytes()];
        for (n, weight) in list.iter().zip(&weights) {
            fields.push(n.item.as_str().as_bytes());
            fields.push(weight);
        }
        self.add(&fields);
    }

    /// The total of an item in an hour; the weight in steps of [`crate::ports::WEIGHT_STEP`].
    pub fn add_total(&mut self, tenant: &str, item: &str, hour: i64, count: u64, steps: i64) {
        self.add(&[
            b"total",
            tenant.as_bytes(),
            item.as_bytes(),
            &hour.to_le_bytes(),
            &count.to_le_bytes(),
            &steps.to_le_bytes(),
        ]);
    }

    /// An engagement that was counted, and with what.
    pub fn add_counted(&mut self, tenant: &str, user: &str, id: &str, item: &str, hour: i64, steps: i64) {
        self.add(&[
            b"counted",
            tenant.as_bytes(),
            user.as_bytes(),
            id.as_bytes(),
            item.as_bytes(),
            &hour.to_le_bytes(),
            &steps.to_le_bytes(),
        ]);
    }

    /// One category of an item.
    pub fn add_label(&mut self, tenant: &str, item: &str, category: &str) {
        self.add(&[b"label", tenant.as_bytes(), item.as_bytes(), category.as_bytes()]);
    }
}
