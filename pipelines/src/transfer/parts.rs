//! Rows on their way into files: cut by date and shard, gathered until a budget of memory is used up.
//!
//! Then the largest cuts become files (`part-00000`, `part-00001`, …) and are forgotten. A vector is written beside the row that it
//! belongs to, in a file of the same name and in the same order, so that whoever reads both needs to remember neither.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use nearcast_domain::{Event, Tenant, Timestamp, UserId, digest::bucket};

use super::{
    TransferError, codec,
    manifest::{Counts, FileEntry},
    rows::{Cut, Dataset, Embedded, Encoding, Row, What},
};

/// What rows of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Erasures,
    Events,
    Items,
    Users,
}

impl Kind {
    /// What its rows and their vectors are written as, and how the names of files begin.
    const fn files(self) -> ((Dataset, What), (Dataset, What), &'static str) {
        match self {
            Self::Erasures => ((Dataset::Events, What::Events), (Dataset::MessageEmbeddings, What::Embeddings), "erasures"),
            Self::Events => ((Dataset::Events, What::Events), (Dataset::MessageEmbeddings, What::Embeddings), "part"),
            Self::Items => ((Dataset::Items, What::Items), (Dataset::ItemEmbeddings, What::Embeddings), "part"),
            Self::Users => ((Dataset::Users, What::Users), (Dataset::Profiles, What::Profiles), "part"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: Kind,
    date: Option<String>,
    shard: Option<usize>,
}

#[derive(Default)]
struct Buffer {
    rows: Vec<(Row, Option<Embedded>)>,
    bytes: usize,
}

/// See the module.
pub(super) struct Parts {
    pub root: PathBuf,
    pub encoding: Encoding,
    pub cut: Cut,
    pub shards: usize,
    pub what: Vec<What>,
    /// Bytes that may wait, about.
    pub budget: usize,
    buffers: BTreeMap<Key, Buffer>,
    held: usize,
    numbers: BTreeMap<Key, u32>,
    files: Vec<FileEntry>,
    counts: Counts,
}

/// What was written.
type Wrote = (Vec<FileEntry>, Counts);

impl Parts {
    pub fn new(root: PathBuf, encoding: Encoding, cut: Cut, shards: usize, what: Vec<What>, budget: usize) -> Self {
        Self {
            root,
            encoding,
            cut,
            shards,
            what,
            budget,
            buffers: BTreeMap::new(),
            held: 0,
            numbers: BTreeMap::new(),
            files: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Takes a row in, with its vector; writes files where the budget is used up.
    pub async fn put(&mut self, row: Row, vector: Option<Embedded>) -> Result<(), TransferError> {
        let shard = row.user().map(|(_, user)| bucket(user.as_str(), self.shards));
        let (kind, date) = match &row {
            Row::Event(Event::Item(_)) => (Kind::Items, None),
            Row::Event(Event::Erasure(e)) => (Kind::Erasures, Some(e.timestamp)),
            Row::Event(Event::Message(e)) => (Kind::Events, Some(e.timestamp)),
            Row::Event(Event::Engagement(e)) => (Kind::Events, Some(e.timestamp)),
            Row::User(_) | Row::Embedded(_) => (Kind::Users, None),
        };
        let bytes = size(&row) + vector.as_ref().map_or(0, |v| 96 + 4 * v.vector.len());
        let buffer = self.buffers.entry(Key { kind, date: date.map(|t| self.cut.date(t)), shard }).or_default();
        buffer.rows.push((row, vector));
        buffer.bytes += bytes;
        self.held += bytes;
        while self.held > self.budget {
            let largest = self.buffers.iter().max_by_key(|(_, b)| b.bytes).map(|(key, _)| key.clone());
            let Some(key) = largest else { break };
            self.flush(key).await?;
        }
        Ok(())
    }

    /// Writes whatever waits.
    pub async fn finish(&mut self) -> Result<(), TransferError> {
        while let Some(key) = self.buffers.keys().next().cloned() {
            self.flush(key).await?;
        }
        Ok(())
    }

    /// Every file by path, and how many rows there are.
    pub fn done(mut self) -> Wrote {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        (self.files, self.counts)
    }

    async fn flush(&mut self, key: Key) -> Result<(), TransferError> {
        let Some(buffer) = self.buffers.remove(&key) else { return Ok(()) };
        self.held -= buffer.bytes;
        let number = self.numbers.entry(key.clone()).or_default();
        let (root, encoding, what, at) = (self.root.clone(), self.encoding, self.what.clone(), *number);
        *number += 1;
        let work = move || write(&root, encoding, &what, &key, at, buffer.rows);
        let (files, counts) = blocking(work).await?;
        self.files.extend(files);
        add(&mut self.counts, &counts);
        Ok(())
    }

    /// Takes users who were erased meanwhile out of the files that are there: all up to the given times.
    pub async fn forget(&mut self, users: HashMap<(Tenant, UserId), Timestamp>) -> Result<(), TransferError> {
        self.finish().await?;
        let shards: Vec<String> = users.keys().map(|(_, u)| shard_name(bucket(u.as_str(), self.shards))).collect();
        let (kept, touched): (Vec<_>, Vec<_>) = std::mem::take(&mut self.files)
            .into_iter()
            .partition(|f| !f.path.split('/').any(|part| shards.iter().any(|s| s == part)));
        self.files = kept;
        let (root, encoding) = (self.root.clone(), self.encoding);
        let work = move || {
            let (mut files, mut gone) = (Vec::new(), Counts::default());
            for file in touched {
                files.extend(without(&root, encoding, file, &users, &mut gone)?);
            }
            Ok((files, gone))
        };
        let (files, gone) = blocking(work).await?;
        self.files.extend(files);
        subtract(&mut self.counts, &gone);
        Ok(())
    }
}

async fn blocking(work: impl FnOnce() -> Result<Wrote, TransferError> + Send + 'static) -> Result<Wrote, TransferError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(TransferError::format("", format!("writing stopped: {e}"))),
    }
}

fn size(row: &Row) -> usize {
    let text = match row {
        Row::Event(Event::Message(m)) => m.text.len(),
        Row::Event(Event::Item(i)) => i.text.as_ref().map_or(0, |t| t.len()) + 64 * (i.attributes.len() + i.categories.len()),
        Row::Embedded(e) => 4 * e.vector.len(),
        _ => 0,
    };
    256 + text
}

fn shard_name(shard: usize) -> String {
    format!("shard={shard:02}")
}

/// The order of rows in a file: by time, then by who and what.
fn order(row: &Row) -> (Timestamp, &str, &str, &str, &str) {
    match row {
        Row::Event(Event::Message(e)) => (e.timestamp, e.tenant.as_str(), e.user_id.as_str(), "message", e.message_id.as_str()),
        Row::Event(Event::Engagement(e)) => {
            (e.timestamp, e.tenant.as_str(), e.user_id.as_str(), "engagement", e.event_id.as_str())
        }
        Row::Event(Event::Erasure(e)) => (e.timestamp, e.tenant.as_str(), e.user_id.as_str(), "erasure", ""),
        Row::Event(Event::Item(e)) => (Timestamp::ZERO, e.tenant.as_str(), e.item_id.as_str(), "item", ""),
        Row::User(u) => (Timestamp::ZERO, u.tenant.as_str(), u.user_id.as_str(), "", ""),
        Row::Embedded(e) => (Timestamp::ZERO, e.tenant.as_str(), e.user_id.as_ref().map_or("", UserId::as_str), "", ""),
    }
}

fn write(
    root: &Path,
    encoding: Encoding,
    what: &[What],
    key: &Key,
    number: u32,
    mut pairs: Vec<(Row, Option<Embedded>)>,
) -> Result<Wrote, TransferError> {
    pairs.sort_by(|(a, _), (b, _)| order(a).cmp(&order(b)));
    let (rows, vectors): (Vec<Row>, Vec<Option<Embedded>>) = pairs.into_iter().unzip();
    let vectors: Vec<Row> = vectors.into_iter().flatten().map(Row::Embedded).collect();
    let ((first, wanted), (second, beside), stem) = key.kind.files();
    let (mut files, mut counts) = (Vec::new(), Counts::default());
    for (dataset, _, rows) in [(first, wanted, rows), (second, beside, vectors)]
        .into_iter()
        .filter(|(_, asked, rows)| what.contains(asked) && !rows.is_empty())
    {
        let date = key.date.iter().map(|d| format!("date={d}/"));
        let shard = key.shard.iter().map(|s| format!("{}/", shard_name(*s)));
        let cut: String = date.chain(shard).collect();
        let path = format!("{}/{cut}{stem}-{number:05}.{}", dataset.name(), encoding.ending());
        let done = codec::write(&root.join(&path), encoding, dataset, &rows)?;
        rows.iter().for_each(|r| *count(&mut counts, dataset, r) += 1);
        files.push(FileEntry { path, dataset, rows: rows.len() as u64, bytes: done.bytes, sha256: done.sha256 });
    }
    Ok((files, counts))
}

/// A file without these users, up to their times; `None` where nothing is left. What summarises a user goes whole.
fn without(
    root: &Path,
    encoding: Encoding,
    file: FileEntry,
    users: &HashMap<(Tenant, UserId), Timestamp>,
    gone: &mut Counts,
) -> Result<Option<FileEntry>, TransferError> {
    let path = root.join(&file.path);
    let mut kept = Vec::new();
    for row in codec::read(&path, encoding, file.dataset)? {
        let row = row?;
        let until = row.user().and_then(|(tenant, user)| users.get(&(tenant.clone(), user.clone())));
        let erased = until.is_some_and(|until| match &row {
            Row::Event(Event::Message(e)) => e.timestamp <= *until,
            Row::Event(Event::Engagement(e)) => e.timestamp <= *until,
            // The erasure itself is written anew, with its newest time.
            _ => true,
        });
        if erased {
            *count(gone, file.dataset, &row) += 1;
        } else {
            kept.push(row);
        }
    }
    if kept.len() as u64 == file.rows {
        return Ok(Some(file));
    }
    if kept.is_empty() {
        std::fs::remove_file(&path).map_err(TransferError::io(&path))?;
        return Ok(None);
    }
    let done = codec::write(&path, encoding, file.dataset, &kept)?;
    Ok(Some(FileEntry { rows: kept.len() as u64, bytes: done.bytes, sha256: done.sha256, ..file }))
}

fn count<'a>(counts: &'a mut Counts, dataset: Dataset, row: &Row) -> &'a mut u64 {
    match (dataset, row) {
        (Dataset::Events, Row::Event(Event::Message(_))) => &mut counts.messages,
        (Dataset::Events, Row::Event(Event::Erasure(_))) => &mut counts.erasures,
        (Dataset::Events, _) => &mut counts.engagements,
        (Dataset::Items, _) => &mut counts.items,
        (Dataset::Users, _) => &mut counts.users,
        (Dataset::Profiles, _) => &mut counts.profiles,
        (Dataset::MessageEmbeddings, _) => &mut counts.message_embeddings,
        (Dataset::ItemEmbeddings, _) => &mut counts.item_embeddings,
    }
}

fn each(c: &mut Counts) -> [&mut u64; 8] {
    [
        &mut c.messages,
        &mut c.engagements,
        &mut c.erasures,
        &mut c.items,
        &mut c.users,
        &mut c.profiles,
        &mut c.message_embeddings,
        &mut c.item_embeddings,
    ]
}

fn add(to: &mut Counts, what: &Counts) {
    let mut what = *what;
    for (to, n) in each(to).into_iter().zip(each(&mut what)) {
        *to += *n;
    }
}

fn subtract(from: &mut Counts, what: &Counts) {
    let mut what = *what;
    for (from, n) in each(from).into_iter().zip(each(&mut what)) {
        *from = from.saturating_sub(*n);
    }
}
