//! Writing many documents in few commands, unordered, so that one that is there already stops nothing.
//!
//! Every statement states an absolute fact: a command that was given up halfway is simply sent again.

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use mongodb::{
    Collection,
    bson::{Bson, Document, doc},
    error::ErrorKind as Driver,
};
use nearcast_domain::{ErrorKind, StoreResult};
use serde::Serialize;

use super::{
    Mongo,
    error::{DUPLICATE_KEY, coded, map},
};

/// The places of documents whose key was there already.
type Duplicates = Vec<usize>;

/// Commands of one bulk insertion that run at once: while a server waits for its disk, another's documents are read.
const COMMANDS: usize = 8;
/// So few documents are not worth a command of their own.
const FEW: usize = 64;

/// How many documents go into each command, so that those that run at once end at about the same time.
fn share(documents: usize, most: usize) -> usize {
    let commands = documents.div_ceil(most).next_multiple_of(COMMANDS);
    documents.div_ceil(commands).max(FEW).min(most)
}

/// Inserts documents, in commands of bounded length; answers which were there already. `size`: about how many bytes a document has.
pub(crate) async fn inserted<T: Serialize + Send + Sync>(
    mongo: &Mongo,
    collection: &Collection<T>,
    documents: &[T],
    size: impl Fn(&T) -> usize,
) -> StoreResult<Duplicates> {
    let mut parts = Vec::new();
    let mut from = 0;
    while from < documents.len() {
        let mut bytes = 0;
        let fits = |d: &&T| {
            bytes += size(d);
            bytes <= mongo.config.batch_bytes
        };
        let most = documents.len().min(from + share(documents.len(), mongo.config.batch_documents));
        let number = documents[from..most].iter().take_while(fits).count().max(1);
        parts.push((from, &documents[from..from + number]));
        from += number;
    }
    let mut calls: Vec<BoxFuture<'_, StoreResult<Duplicates>>> = Vec::new();
    for (from, part) in parts {
        calls.push(insert(mongo, collection, from, part).boxed());
    }
    let running = stream::iter(calls).buffer_unordered(mongo.config.concurrency.min(COMMANDS));
    let mut duplicates = running.try_collect::<Vec<_>>().await?.concat();
    duplicates.sort_unstable();
    Ok(duplicates)
}

/// One command; the places of what it answers begin with `from`.
async fn insert<T: Serialize + Send + Sync>(
    mongo: &Mongo,
    collection: &Collection<T>,
    from: usize,
    part: &[T],
) -> StoreResult<Duplicates> {
    let call = async { Ok(collection.insert_many(part).ordered(false).await) };
    let Err(e) = mongo.call(call).await? else { return Ok(Vec::new()) };
    match e.kind.as_ref() {
        Driver::InsertMany(many)
            if many.write_concern_error.is_none() && many.write_errors.iter().flatten().all(|w| w.code == DUPLICATE_KEY) =>
        {
            Ok(many.write_errors.iter().flatten().map(|w| from + w.index).collect())
        }
        // A duplicate beside a real failure must not hide it.
        Driver::InsertMany(many) => {
            let real = many.write_errors.iter().flatten().find(|w| w.code != DUPLICATE_KEY);
            Err(match (real, &many.write_concern_error) {
                (Some(w), _) => mongo.refusal(w.code, w.code_name.as_deref().unwrap_or(""), &w.message),
                (None, Some(w)) => mongo.refusal(w.code, &w.code_name, &w.message),
                (None, None) => map(mongo.store(), &e),
            })
        }
        _ => Err(map(mongo.store(), &e)),
    }
}

impl Mongo {
    /// Runs statements `{ q, u, upsert }`; answers how many documents matched or were made. A statement that failed because another
    /// writer made the same document at that moment is run again.
    ///
    /// Every filter names its documents by key, so each statement may be `multi`. It must be: with `multi: false` FerretDB 1.24 leaves
    /// the rows of each statement open until the command ends, and a long command waits for ever for one more connection.
    pub async fn update(&self, collection: &str, mut statements: Vec<Document>) -> StoreResult<u64> {
        let mut done = 0;
        statements.iter_mut().for_each(|s| drop(s.insert("multi", true)));
        for part in statements.chunks(self.config.batch_documents) {
            let mut left = part.to_vec();
            for _ in 0..4 {
                let (n, again) = self.statements("update", "updates", collection, &left).await?;
                done += n;
                left = again.into_iter().filter_map(|at| left.get(at).cloned()).collect();
                if left.is_empty() {
                    break;
                }
            }
            if !left.is_empty() {
                return Err(
                    self.error(ErrorKind::Busy, format!("others write the same documents of {collection:?} all the time"))
                );
            }
        }
        Ok(done)
    }

    /// Removes what these filters name; answers how many documents went.
    pub async fn delete(&self, collection: &str, filters: Vec<Document>) -> StoreResult<u64> {
        let mut done = 0;
        let statements: Vec<Document> = filters.into_iter().map(|q| doc! { "q": q, "limit": 0 }).collect();
        for part in statements.chunks(self.config.batch_documents) {
            done += self.statements("delete", "deletes", collection, part).await?.0;
        }
        Ok(done)
    }

    async fn statements(
        &self,
        command: &str,
        field: &str,
        collection: &str,
        part: &[Document],
    ) -> StoreResult<(u64, Vec<usize>)> {
        if part.is_empty() {
            return Ok((0, Vec::new()));
        }
        let database = self.database().await?;
        let wait = i64::try_from(self.config.call_timeout_ms).unwrap_or(i64::MAX);
        let mut run = doc! { command: collection };
        run.insert(field, part);
        run.insert("ordered", false);
        run.insert("writeConcern", doc! { "w": "majority", "j": true, "wtimeout": wait });
        let reply = self.call(database.run_command(run)).await?;
        let mut again = Vec::new();
        for error in reply.get_array("writeErrors").into_iter().flatten().filter_map(Bson::as_document) {
            let (code, name, message) = told(error);
            match usize::try_from(whole(error, "index")) {
                Ok(at) if code == DUPLICATE_KEY => again.push(at),
                _ => return Err(self.refusal(code, name, message)),
            }
        }
        if let Ok(error) = reply.get_document("writeConcernError") {
            let (code, name, message) = told(error);
            return Err(self.refusal(code, name, message));
        }
        Ok((u64::try_from(whole(&reply, "n")).unwrap_or(0), again))
    }

    fn refusal(&self, code: i32, name: &str, message: &str) -> nearcast_domain::StoreError {
        let (kind, message) = coded(code, name, message);
        self.error(kind, message)
    }
}

fn told(error: &Document) -> (i32, &str, &str) {
    let code = i32::try_from(whole(error, "code")).unwrap_or(0);
    (code, error.get_str("codeName").unwrap_or(""), error.get_str("errmsg").unwrap_or(""))
}

/// A whole number, in whichever of its forms a server sends it.
pub(super) fn whole(document: &Document, field: &str) -> i64 {
    match document.get(field) {
        Some(Bson::Int32(n)) => i64::from(*n),
        Some(Bson::Int64(n)) => *n,
        Some(Bson::Double(n)) => *n as i64,
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_run_at_once_are_of_one_length() {
        for (documents, most, each) in
            [(4_096, 1_000, 512), (1_000, 1_000, 125), (10, 1_000, 64), (9, 5, 5), (8_000, 1_000, 1_000)]
        {
            assert_eq!(share(documents, most), each, "{documents} documents, {most} at most");
        }
    }
}
