//! Dead letters: what is kept of a record that could not be used.
//!
//! A letter's id is derived from what failed, so that reading the same file twice keeps one letter.

use std::sync::Arc;

use nearcast_domain::{
    Tenant, Timestamp, UserId,
    event::hex,
    ports::{DeadLetter, Record},
};
use sha2::{Digest, Sha256};

/// A letter about a record.
pub fn letter(record: &Record, tenant: &Tenant, user: Option<UserId>, reason: String, at: Timestamp) -> DeadLetter {
    let key = record.key.clone().filter(|k| !k.is_empty());
    DeadLetter { key, ..from_bytes(record.bytes.clone(), &record.origin, tenant, user, reason, at) }
}

/// A letter about bytes from anywhere.
pub fn from_bytes(
    bytes: Arc<[u8]>,
    origin: &str,
    tenant: &Tenant,
    user: Option<UserId>,
    reason: String,
    at: Timestamp,
) -> DeadLetter {
    let user = user.or_else(|| user_of(&bytes));
    let mut h = Sha256::new();
    for part in [origin.as_bytes(), reason.as_bytes(), &bytes] {
        h.update((part.len() as u64).to_le_bytes());
        h.update(part);
    }
    let id = hex(&h.finalize()[..12]);
    DeadLetter { id, tenant: tenant.clone(), user, reason, origin: origin.to_owned(), bytes, key: None, at }
}

/// The user that broken bytes name, as far as JSON can be read out of them: erasure must find the letter.
fn user_of(bytes: &[u8]) -> Option<UserId> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    match value.get("user_id")? {
        serde_json::Value::String(s) => UserId::parse(s).ok(),
        serde_json::Value::Number(n) => UserId::parse(&n.to_string()).ok(),
        _ => None,
    }
}
