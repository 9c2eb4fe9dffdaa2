//! One file of Gorse's `/api/dump`: streams of users, items and feedback.
//!
//! Each stream begins with its mark (-1 users, -2 items, -3 feedback) and holds messages of Protocol Buffers, each behind its length, all
//! numbers being eight bytes, little-endian; a length of 0 ends the file. The messages are `User`, `Item` and `Feedback` of Gorse's
//! `protocol.proto`. Feedback got a value in a later version, before or behind its time: it is known by its wire type.

use std::{io::Read, path::Path};

use serde_json::{Value, json};

use super::{
    ReadError, Sink,
    gorse::{Row, feedback, item},
    lined,
};

const USERS: i64 = -1;
const ITEMS: i64 = -2;
const FEEDBACK: i64 = -3;
const END: i64 = 0;
/// The longest message that is looked at.
const LONGEST: i64 = 16 << 20;

pub(super) fn read(path: &Path, sink: &mut Sink) -> Result<(), ReadError> {
    let mut input = lined::open(path, sink.counter())?;
    let (mut stream, mut number) = (END, 0_u64);
    let torn = |number: u64, e: &dyn std::fmt::Display| {
        ReadError::at(path, 0, format!("behind message {number}: {e}: the dump is torn"))
    };
    loop {
        let mut eight = [0; 8];
        input.read_exact(&mut eight).map_err(|e| torn(number, &e))?;
        match i64::from_le_bytes(eight) {
            END => return Ok(()),
            mark @ (USERS | ITEMS | FEEDBACK) => stream = mark,
            length if (1..=LONGEST).contains(&length) && stream != END => {
                let mut bytes = vec![0; length as usize];
                input.read_exact(&mut bytes).map_err(|e| torn(number, &e))?;
                number += 1;
                if stream != USERS {
                    tell(path, number, stream, &bytes, sink)?;
                }
            }
            other => return Err(torn(number, &format!("{other} is no length and no mark of a stream"))),
        }
    }
}

/// Streams are told apart by their marks; a position within one is the number of the message.
fn tell(path: &Path, number: u64, stream: i64, bytes: &[u8], sink: &mut Sink) -> Result<(), ReadError> {
    let origin = format!("{}#{number}", path.display());
    let Some(fields) = fields(bytes) else {
        return Err(ReadError::at(path, 0, format!("message {number} is no Protocol Buffers message: the dump is torn")));
    };
    let row = if stream == ITEMS { item_row(&fields) } else { feedback_row(&fields) };
    match if stream == ITEMS { item(&row) } else { feedback(&row) } {
        Ok(event) => sink.event(origin, &event),
        Err(why) => sink.reject(origin, json!(row).to_string().into_bytes(), why),
    }
}

/// A field's value by its wire type.
enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Other,
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(n)?;
    *bytes = rest;
    Some(taken)
}

/// The fields of a message, by <https://protobuf.dev/programming-guides/encoding/>.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Wire::Varint(varint(&mut bytes)?),
            1 => Wire::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Wire::Bytes(take(&mut bytes, length)?)
            }
            5 => {
                take(&mut bytes, 4)?;
                Wire::Other
            }
            _ => return None,
        };
        all.push((tag >> 3, value));
    }
    Some(all)
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// A `google.protobuf.Timestamp` as RFC 3339; Go's zero time, which is none, lies before 1970 by far.
fn time(bytes: &[u8]) -> Value {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    for (number, value) in fields(bytes).unwrap_or_default() {
        match (number, value) {
            (1, Wire::Varint(n)) => seconds = n as i64,
            (2, Wire::Varint(n)) => nanos = n as i64,
            _ => {}
        }
    }
    if seconds < -60_000_000_000 {
        return Value::Null;
    }
    nearcast_domain::Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)).to_string().into()
}

fn item_row(fields: &[(u64, Wire<'_>)]) -> Row {
    let (mut row, mut categories) = (Row::new(), Vec::new());
    for field in fields {
        match field {
            (2, Wire::Bytes(b)) => drop(row.insert("itemid".into(), text(b))),
            (3, Wire::Varint(hidden)) => drop(row.insert("ishidden".into(), (*hidden != 0).into())),
            (4, Wire::Bytes(b)) => categories.push(text(b)),
            (5, Wire::Bytes(b)) => drop(row.insert("timestamp".into(), time(b))),
            (6, Wire::Bytes(b)) => drop(row.insert("labels".into(), serde_json::from_slice(b).unwrap_or_default())),
            (7, Wire::Bytes(b)) => drop(row.insert("comment".into(), text(b))),
            _ => {}
        }
    }
    row.insert("categories".into(), categories.into());
    row
}

fn feedback_row(fields: &[(u64, Wire<'_>)]) -> Row {
    let mut row = Row::new();
    // The field of the time: behind the value where the value stands before it.
    let at = if fields.iter().any(|f| matches!(f, (5, Wire::Bytes(_)))) { 5 } else { 6 };
    for field in fields {
        match field {
            (2, Wire::Bytes(b)) => drop(row.insert("feedbacktype".into(), text(b))),
            (3, Wire::Bytes(b)) => drop(row.insert("userid".into(), text(b))),
            (4, Wire::Bytes(b)) => drop(row.insert("itemid".into(), text(b))),
            (5.., Wire::Fixed64(b)) => drop(row.insert("value".into(), f64::from_le_bytes(*b).into())),
            (n, Wire::Bytes(b)) if *n == at => drop(row.insert("timestamp".into(), time(b))),
            _ => {}
        }
    }
    row
}
