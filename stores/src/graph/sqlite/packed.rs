//! A neighbour list as bytes: for each neighbour the length of its id (16 bits), the id, and the weight, all little-endian.
//!
//! Ids are spelled out, so that a request for a hundred lists reads a hundred rows and looks nothing else up.

use nearcast_domain::{ItemId, ports::Neighbour};

use crate::{graph::strongest_first, sqlite::error::torn};

/// Writes a list in its order.
pub(super) fn pack(list: &[Neighbour]) -> Vec<u8> {
    let mut sorted: Vec<&Neighbour> = list.iter().collect();
    sorted.sort_by(|a, b| strongest_first(a, b));
    let mut bytes = Vec::with_capacity(list.iter().map(|n| n.item.as_str().len() + 6).sum());
    for n in sorted {
        let id = n.item.as_str().as_bytes();
        bytes.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend_from_slice(&id[..id.len().min(usize::from(u16::MAX))]);
        bytes.extend_from_slice(&n.weight.to_le_bytes());
    }
    bytes
}

/// Reads at most `limit` neighbours.
pub(super) fn unpack(mut bytes: &[u8], limit: usize) -> sqlx::Result<Vec<Neighbour>> {
    let mut list = Vec::new();
    while !bytes.is_empty() && list.len() < limit {
        let read = || -> Option<(Neighbour, &[u8])> {
            let (length, rest) = bytes.split_first_chunk::<2>()?;
            let (id, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            let (weight, rest) = rest.split_first_chunk::<4>()?;
            let item = ItemId::trusted(std::str::from_utf8(id).ok()?);
            Some((Neighbour { item, weight: f32::from_le_bytes(*weight) }, rest))
        };
        let (neighbour, rest) = read().ok_or_else(|| torn("a neighbour list"))?;
        list.push(neighbour);
        bytes = rest;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_back_in_their_order() {
        let n = |id: &str, weight| Neighbour { item: ItemId::trusted(id), weight };
        let bytes = pack(&[n("c", 0.5), n("б", 0.5), n("a", 2.0), n("b", 0.5)]);
        let list = unpack(&bytes, 3).unwrap();
        assert_eq!(list, [n("a", 2.0), n("b", 0.5), n("c", 0.5)]);
        assert_eq!(unpack(&bytes, 9).unwrap().len(), 4);
        assert!(unpack(&bytes[..bytes.len() - 1], 9).is_err());
    }
}
