//! MovieLens: `ratings.csv` with `movies.csv` (since 2015), or `ratings.dat` with `movies.dat` (1M, 10M; fields parted by `::`).
//!
//! A film becomes an item with its title and genres, a rating an engagement of the kind `rating` with the stars as they stand. Ratings
//! have no ids: theirs follow from their content. Format: the README files that GroupLens ships with each set.

use std::{
    io::BufRead as _,
    path::{Path, PathBuf},
};

use nearcast_domain::Timestamp;
use serde_json::json;

use super::{ReadError, Sink, lined};

/// What stands for a film without genres.
const NO_GENRES: &str = "(no genres listed)";

/// Films first, then ratings.
pub(super) fn read(files: &[PathBuf], sink: &mut Sink) -> Result<(), ReadError> {
    if files.len() == 1 {
        sink.note(format!("{}: there are no films beside it; items have no titles", files[0].display()));
    }
    for file in files {
        let films = file.file_name().is_some_and(|n| n.to_string_lossy().starts_with("movies"));
        if file.extension().is_some_and(|e| e == "dat") {
            dat(file, films, sink)?;
        } else {
            csv(file, films, sink)?;
        }
    }
    Ok(())
}

fn csv(path: &Path, films: bool, sink: &mut Sink) -> Result<(), ReadError> {
    let input = lined::open(path, sink.counter())?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let header = reader.byte_headers().map_err(|e| ReadError::at(path, 1, e))?.clone();
    let expected: &[&[u8]] =
        if films { &[b"movieId", b"title", b"genres"] } else { &[b"userId", b"movieId", b"rating", b"timestamp"] };
    if !header.iter().eq(expected.iter().copied()) {
        let names: Vec<_> = expected.iter().map(|n| String::from_utf8_lossy(n)).collect();
        let found: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
        let what = format!("the header must be {}, it is {}", names.join(","), found.join(","));
        return Err(ReadError::at(path, 1, what));
    }
    // Where lines end in CR LF, the reader counts a line when it begins the next record.
    let behind = 2_u64.saturating_sub(reader.position().line());
    let mut record = csv::ByteRecord::new();
    loop {
        let line = reader.position().line() + behind;
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) => return Err(ReadError::at(path, line, e)),
        }
        let line = record.position().map_or(line, |p| p.line() + behind);
        let fields: Vec<String> = record.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect();
        fact(path, line, films, &fields, sink)?;
    }
}

fn dat(path: &Path, films: bool, sink: &mut Sink) -> Result<(), ReadError> {
    let mut input = lined::open(path, sink.counter())?;
    let (mut bytes, mut line) = (Vec::new(), 0);
    loop {
        bytes.clear();
        line += 1;
        if input.read_until(b'\n', &mut bytes).map_err(|e| ReadError::at(path, line, e))? == 0 {
            return Ok(());
        }
        // Titles of the older sets are Latin-1: each byte is its own code point.
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            continue;
        }
        let fields: Vec<String> = text.split("::").map(str::to_owned).collect();
        fact(path, line, films, &fields, sink)?;
    }
}

fn fact(path: &Path, line: u64, films: bool, fields: &[String], sink: &mut Sink) -> Result<(), ReadError> {
    let origin = format!("{}:{line}", path.display());
    let wanted = if films { 3 } else { 4 };
    if fields.len() != wanted {
        let why = format!("has {} fields where {wanted} are expected", fields.len());
        return sink.reject(origin, fields.join(",").into_bytes(), why);
    }
    if films {
        let genres: Vec<&str> = fields[2].split('|').filter(|g| !g.is_empty() && *g != NO_GENRES).collect();
        let event = json!({ "type": "item", "item_id": fields[0], "text": fields[1], "categories": genres });
        return sink.event(origin, &event);
    }
    let (Ok(stars), Ok(seconds)) = (fields[2].parse::<f64>(), fields[3].parse::<i64>()) else {
        return sink.reject(origin, fields.join(",").into_bytes(), "the rating or the timestamp is no number");
    };
    let at = Timestamp::from_millis(seconds.saturating_mul(1000));
    let event = json!({ "type": "engagement", "user_id": fields[0], "item_id": fields[1], "kind": "rating", "value": stars, "timestamp": at });
    sink.event(origin, &event)
}
