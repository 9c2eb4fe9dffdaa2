//! A dump of Stack Exchange: `Posts.xml` and, beside it, `Comments.xml`.
//!
//! A question becomes an item (its title and text, its tags as categories) and a message of whoever asked; an answer and a comment become
//! messages about the question. Ids are the dump's own, so that a later dump adds to an earlier one. What has no author any more is
//! passed over. Format: the schema that Stack Exchange publishes with its dumps.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use quick_xml::{Reader, XmlVersion, events::Event as Xml};
use serde_json::{Value, json};

use super::{ReadError, Sink, html, lined};

/// Posts first: comments say only which post they are about.
pub(super) fn read(files: &[PathBuf], sink: &mut Sink) -> Result<(), ReadError> {
    // Which question each post belongs to.
    let (mut questions, mut nobody): (HashMap<u64, u64>, u64) = (HashMap::new(), 0);
    for file in files {
        let comments = file.file_name().is_some_and(|n| n == "Comments.xml");
        rows(file, if comments { "comments" } else { "posts" }, sink, &mut |row, origin, sink| {
            let told = if comments { comment(row, &questions) } else { post(row, &mut questions) };
            match told {
                Ok(events) => {
                    nobody += u64::from(events.is_empty());
                    events.iter().try_for_each(|e| sink.event(origin.clone(), e))
                }
                Err(why) => sink.reject(origin, json!(row).to_string().into_bytes(), why),
            }
        })?;
    }
    if nobody > 0 {
        sink.note(format!(
            "{nobody} posts and comments have no author any more, or are about none of the questions: passed over"
        ));
    }
    Ok(())
}

/// The attributes of a row.
type Row = HashMap<String, String>;

fn rows(
    path: &Path,
    root: &str,
    sink: &mut Sink,
    each: &mut dyn FnMut(&Row, String, &mut Sink) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let input = lined::open(path, sink.counter())?;
    let at = input.line.clone();
    let mut reader = Reader::from_reader(input);
    let (mut buffer, mut inside, mut ended) = (Vec::new(), false, false);
    loop {
        buffer.clear();
        let line = at.load(Ordering::Relaxed);
        let found = reader.read_event_into(&mut buffer).map_err(|e| ReadError::at(path, line, e))?;
        match found {
            Xml::Start(tag) if tag.name().as_ref() == root.as_bytes() => inside = true,
            Xml::End(tag) if tag.name().as_ref() == root.as_bytes() => ended = true,
            Xml::Empty(tag) if inside && tag.name().as_ref() == b"row" => {
                let mut row = Row::new();
                for attribute in tag.attributes() {
                    let attribute = attribute.map_err(|e| ReadError::at(path, line, e))?;
                    let value = attribute.decoded_and_normalized_value(XmlVersion::Implicit1_0, reader.decoder());
                    let value = value.map_err(|e| ReadError::at(path, line, e))?;
                    row.insert(String::from_utf8_lossy(attribute.key.as_ref()).into_owned(), value.into_owned());
                }
                each(&row, format!("{}:{line}", path.display()), sink)?;
            }
            Xml::Start(tag) | Xml::Empty(tag) => {
                let name = String::from_utf8_lossy(tag.name().as_ref()).into_owned();
                return Err(ReadError::at(path, line, format!("<{name}> where <{root}> with its rows is expected")));
            }
            Xml::Eof if inside && ended => return Ok(()),
            Xml::Eof => return Err(ReadError::at(path, line, format!("the file ends before </{root}>: it is torn"))),
            _ => {}
        }
    }
}

fn number(row: &Row, name: &str) -> Option<u64> {
    row.get(name).and_then(|v| v.parse().ok())
}

fn needed<'a>(row: &'a Row, name: &str) -> Result<&'a str, String> {
    row.get(name).map(String::as_str).ok_or_else(|| format!("the row has no {name}"))
}

fn post(row: &Row, questions: &mut HashMap<u64, u64>) -> Result<Vec<Value>, String> {
    let id = number(row, "Id").ok_or("the row has no Id")?;
    let body = html::text(row.get("Body").map_or("", String::as_str));
    let (written, author) = (needed(row, "CreationDate")?, author(row, "OwnerUserId"));
    let message = |about: u64, text: &str| {
        author.filter(|_| !text.is_empty()).map(|author| {
            json!({ "type": "message", "message_id": format!("post-{id}"), "user_id": author, "item_id": about.to_string(),
                    "text": text, "timestamp": written })
        })
    };
    match needed(row, "PostTypeId")? {
        "1" => {
            questions.insert(id, id);
            let text = html::cut(format!("{}. {body}", needed(row, "Title")?).trim());
            let edited = row.get("LastEditDate").map_or(written, String::as_str);
            let item = json!({ "type": "item", "item_id": id.to_string(), "text": text, "categories": tags(row),
                               "timestamp": edited });
            Ok([Some(item), message(id, &text)].into_iter().flatten().collect())
        }
        "2" => {
            let question = number(row, "ParentId").ok_or("the answer has no ParentId")?;
            questions.insert(id, question);
            Ok(message(question, &body).into_iter().collect())
        }
        // Wikis of tags, nominations and the like.
        _ => Ok(Vec::new()),
    }
}

fn comment(row: &Row, questions: &HashMap<u64, u64>) -> Result<Vec<Value>, String> {
    let id = number(row, "Id").ok_or("the row has no Id")?;
    let post = number(row, "PostId").ok_or("the row has no PostId")?;
    let (written, text) = (needed(row, "CreationDate")?, html::text(row.get("Text").map_or("", String::as_str)));
    let known = author(row, "UserId").zip(questions.get(&post)).filter(|_| !text.is_empty());
    Ok(known
        .map(|(author, question)| {
            json!({ "type": "message", "message_id": format!("comment-{id}"), "user_id": author,
                    "item_id": question.to_string(), "text": text, "timestamp": written })
        })
        .into_iter()
        .collect())
}

/// Whoever wrote it; -1 is the site itself.
fn author<'a>(row: &'a Row, name: &str) -> Option<&'a str> {
    row.get(name).map(String::as_str).filter(|id| *id != "-1")
}

/// `<hops><history>`, since 2024 `|hops|history|`.
fn tags(row: &Row) -> Vec<&str> {
    let tags = row.get("Tags").map_or("", String::as_str);
    tags.split(['<', '>', '|']).filter(|t| !t.is_empty()).collect()
}
