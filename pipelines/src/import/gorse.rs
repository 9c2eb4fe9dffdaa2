//! What Gorse keeps, as its dashboard and its command line write it: `items` and `feedback`, each as CSV or as a JSON object a line.
//!
//! An item becomes an item (its comment is its text, its labels are kept as an attribute), feedback an engagement of its type. Users carry
//! labels alone, which have no counterpart here, and are not read. Feedback has no id of its own: it follows from the content.
//! Fields are those of Gorse's `data.Item` and `data.Feedback`; names may be written `ItemId` or `item_id`.

use std::{
    collections::HashMap,
    io::BufRead as _,
    path::{Path, PathBuf},
};

use nearcast_domain::Timestamp;
use serde_json::{Map, Value, json};

use super::{ReadError, Sink, html, lined};

/// A row by its names, in lower case without underlines.
pub(super) type Row = HashMap<String, Value>;

/// Items first, then feedback.
pub(super) fn read(files: &[PathBuf], sink: &mut Sink) -> Result<(), ReadError> {
    for file in files {
        let items = file.file_name().is_some_and(|n| n.to_string_lossy().starts_with("items"));
        if file.extension().is_some_and(|e| e == "csv") {
            csv(file, items, sink)?;
        } else {
            lines(file, items, sink)?;
        }
    }
    Ok(())
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_' && *c != ' ').flat_map(char::to_lowercase).collect()
}

fn csv(path: &Path, items: bool, sink: &mut Sink) -> Result<(), ReadError> {
    let input = lined::open(path, sink.counter())?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let header = reader.headers().map_err(|e| ReadError::at(path, 1, e))?.clone();
    let names: Vec<String> = header.iter().map(plain).collect();
    let needed: &[&str] = if items { &["itemid"] } else { &["feedbacktype", "userid", "itemid"] };
    if let Some(missing) = needed.iter().find(|n| !names.iter().any(|name| name == *n)) {
        return Err(ReadError::at(
            path,
            1,
            format!("the header has no {missing}: {}", header.iter().collect::<Vec<_>>().join(",")),
        ));
    }
    // Where lines end in CR LF, the reader counts a line when it begins the next record.
    let behind = 2_u64.saturating_sub(reader.position().line());
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line() + behind;
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) => return Err(ReadError::at(path, line, e)),
        }
        let line = record.position().map_or(line, |p| p.line() + behind);
        let row = names.iter().cloned().zip(record.iter().map(|f| Value::from(f.to_owned()))).collect();
        tell(path, line, items, &row, sink)?;
    }
}

fn lines(path: &Path, items: bool, sink: &mut Sink) -> Result<(), ReadError> {
    let mut input = lined::open(path, sink.counter())?;
    let (mut text, mut line) = (String::new(), 0);
    loop {
        text.clear();
        line += 1;
        if input.read_line(&mut text).map_err(|e| ReadError::at(path, line, e))? == 0 {
            return Ok(());
        }
        if text.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Map<String, Value>>(&text) {
            Ok(map) => tell(path, line, items, &map.into_iter().map(|(k, v)| (plain(&k), v)).collect(), sink)?,
            Err(e) => {
                let origin = format!("{}:{line}", path.display());
                sink.reject(origin, text.trim_end().as_bytes().to_vec(), format!("is no JSON object: {e}"))?;
            }
        }
    }
}

fn tell(path: &Path, line: u64, items: bool, row: &Row, sink: &mut Sink) -> Result<(), ReadError> {
    let origin = format!("{}:{line}", path.display());
    match if items { item(row) } else { feedback(row) } {
        Ok(event) => sink.event(origin, &event),
        Err(why) => sink.reject(origin, json!(row).to_string().into_bytes(), why),
    }
}

fn text<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name).and_then(Value::as_str).filter(|t| !t.is_empty())
}

pub(super) fn item(row: &Row) -> Result<Value, String> {
    let id = text(row, "itemid").ok_or("the item has no ItemId")?;
    let categories: Vec<&str> = match row.get("categories") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(joined)) => joined.split('|').filter(|c| !c.is_empty()).collect(),
        _ => Vec::new(),
    };
    let hidden = match row.get("ishidden") {
        Some(Value::Bool(hidden)) => *hidden,
        Some(Value::String(hidden)) => matches!(hidden.as_str(), "true" | "True" | "TRUE" | "1"),
        _ => false,
    };
    let words = text(row, "comment").or_else(|| text(row, "description")).map(html::cut).filter(|t| !t.trim().is_empty());
    let mut event = json!({ "type": "item", "item_id": id, "text": words, "categories": categories, "hidden": hidden });
    if let Some(at) = time(row)? {
        event["timestamp"] = at.to_string().into();
    }
    match row.get("labels") {
        None | Some(Value::Null) => {}
        Some(Value::String(s)) if s.is_empty() => {}
        Some(labels) => event["attributes"] = json!({ "labels": labels }),
    }
    Ok(event)
}

pub(super) fn feedback(row: &Row) -> Result<Value, String> {
    let needed = |name: &str, shown: &str| text(row, name).ok_or_else(|| format!("the feedback has no {shown}"));
    let (kind, user, item) =
        (needed("feedbacktype", "FeedbackType")?, needed("userid", "UserId")?, needed("itemid", "ItemId")?);
    // What has no time happened before everything that has one.
    let at = time(row)?.unwrap_or(Timestamp::ZERO);
    let mut event = json!({ "type": "engagement", "user_id": user, "item_id": item, "kind": kind, "timestamp": at });
    let value = match row.get("value") {
        Some(Value::Number(n)) => n.as_f64(),
        Some(Value::String(s)) if !s.is_empty() => Some(s.parse::<f64>().map_err(|_| format!("the Value {s:?} is no number"))?),
        _ => None,
    };
    // Types that carry none are stored with 0.
    if let Some(value) = value.filter(|v| *v != 0.0) {
        event["value"] = value.into();
    }
    Ok(event)
}

/// RFC 3339, a date, seconds since 1970, or as Go prints a time (`2026-01-02 03:04:05 +0000 UTC`). Go's zero time is none.
fn time(row: &Row) -> Result<Option<Timestamp>, String> {
    let text = match row.get("timestamp") {
        Some(Value::String(text)) if !text.is_empty() => text.as_str(),
        Some(Value::Number(n)) => return Ok(n.as_i64().map(|s| Timestamp::from_millis(s.saturating_mul(1000)))),
        _ => return Ok(None),
    };
    if text.starts_with("0001-01-01") {
        return Ok(None);
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Some(Timestamp::from_millis(seconds.saturating_mul(1000))));
    }
    let mut parts = text.split(' ');
    let (date, clock, offset) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let offset = offset.filter(|o| o.len() == 5 && o.starts_with(['+', '-'])).map(|o| format!("{}:{}", &o[..3], &o[3..]));
    let whole = match clock {
        Some(clock) => format!("{date}T{clock}{}", offset.as_deref().unwrap_or_default()),
        None if date.len() == 10 => format!("{date}T00:00:00"),
        None => date.to_owned(),
    };
    Timestamp::parse(&whole).map(Some).map_err(|e| format!("the Timestamp {text:?} {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_writes_them() {
        let of = |text: &str| time(&Row::from([("timestamp".into(), text.into())]));
        let expected = Timestamp::parse("2026-01-02T03:04:05Z").unwrap();
        for text in ["2026-01-02T03:04:05Z", "2026-01-02 03:04:05 +0000 UTC", "2026-01-02 04:04:05 +0100 CET", "1767323045"] {
            assert_eq!(of(text).unwrap(), Some(expected), "{text}");
        }
        assert_eq!(of("2026-01-02").unwrap(), Some(Timestamp::parse("2026-01-02T00:00:00Z").unwrap()));
        assert_eq!(of("0001-01-01T00:00:00Z").unwrap(), None);
        assert!(of("soon").unwrap_err().contains("soon"));
    }
}
