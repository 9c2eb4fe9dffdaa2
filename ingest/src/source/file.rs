//! Events from a file (`.jsonl`, `.jsonl.gz`) or from standard input, a record a line.
//!
//! A thread of its own reads ahead through a bounded queue. An import that was interrupted goes on where its last commit
//! was, as long as the file is still the same one (size and time); one that is complete leaves no trace, so that
//! importing again reads everything again, which changes nothing.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::UNIX_EPOCH,
};

use async_trait::async_trait;
use flate2::read::MultiGzDecoder;
use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant,
    decode::MAX_RECORD_BYTES,
    ports::{EventSource, Positions, Record, SourceBatch},
};
use tokio::sync::mpsc;

use super::lines::read_line;

/// How many lines travel together from the reading thread.
const CHUNK: usize = 512;

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("{path}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The place for positions cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Numbered {
    number: u64,
    bytes: Vec<u8>,
    cut: bool,
}

/// A file, or standard input, as a source.
pub struct FileSource {
    name: String,
    tenant: Tenant,
    rx: mpsc::Receiver<io::Result<Vec<Numbered>>>,
    waiting: std::vec::IntoIter<Numbered>,
    resume: Option<(String, String, Arc<dyn Positions>)>,
    read: Arc<AtomicU64>,
    size: Option<u64>,
    skipped: u64,
    ended: bool,
}

impl FileSource {
    /// Opens a file, or standard input for `-`. What was committed of it before is skipped.
    pub async fn open(path: &Path, tenant: Tenant, positions: Arc<dyn Positions>) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Open { path: path.to_owned(), source };
        let read = Arc::new(AtomicU64::new(0));
        if path.as_os_str() == "-" {
            let input = Box::new(BufReader::new(Counted { inner: io::stdin(), read: read.clone() }));
            return Ok(Self::start("-".into(), tenant, input, 0, None, read, None));
        }
        let mut file = File::open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.is_dir() {
            return Err(failed(io::Error::other("is a directory; name its files")));
        }
        let key = format!("import:{}", path.canonicalize().map_err(failed)?.display());
        let changed = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
        let same_file = format!("{}:{changed}", meta.len());
        let skip = match positions.get(&key).await? {
            Some(text) => text.split_once('@').filter(|(f, _)| *f == same_file).and_then(|(_, n)| n.parse().ok()).unwrap_or(0),
            None => 0,
        };
        let mut magic = [0; 2];
        let zipped = file.read(&mut magic).map_err(failed)? == 2 && magic == [0x1f, 0x8b];
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let counted = BufReader::with_capacity(1 << 18, Counted { inner: file, read: read.clone() });
        let input: Box<dyn BufRead + Send> =
            if zipped { Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(counted))) } else { Box::new(counted) };
        let name = path.display().to_string();
        Ok(Self::start(name, tenant, input, skip, Some((key, same_file, positions)), read, Some(meta.len())))
    }

    fn start(
        name: String,
        tenant: Tenant,
        input: Box<dyn BufRead + Send>,
        skip: u64,
        resume: Option<(String, String, Arc<dyn Positions>)>,
        read: Arc<AtomicU64>,
        size: Option<u64>,
    ) -> Self {
        let (tx, rx) = mpsc::channel(32);
        // The thread ends by itself: at the end of the input, or when nobody receives any more.
        std::thread::spawn(move || read_all(input, skip, &tx));
        Self { name, tenant, rx, waiting: Vec::new().into_iter(), resume, read, size, skipped: skip, ended: false }
    }

    /// Bytes of the file read so far, compressed where it is.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    /// The size of the file, where there is one.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Lines that an earlier, interrupted import had finished with.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

fn read_all(mut input: Box<dyn BufRead + Send>, skip: u64, tx: &mpsc::Sender<io::Result<Vec<Numbered>>>) {
    let mut number = 0;
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut chunk_bytes = 0;
    loop {
        match read_line(&mut input, MAX_RECORD_BYTES) {
            Ok(Some(line)) => {
                number += 1;
                // A blank line is no record.
                if number <= skip || (line.bytes.iter().all(u8::is_ascii_whitespace) && !line.cut) {
                    continue;
                }
                chunk_bytes += line.bytes.len();
                chunk.push(Numbered { number, bytes: line.bytes, cut: line.cut });
                if chunk.len() == CHUNK || chunk_bytes > (1 << 20) {
                    chunk_bytes = 0;
                    if tx.blocking_send(Ok(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)))).is_err() {
                        return;
                    }
                }
            }
            Ok(None) => {
                if !chunk.is_empty() {
                    let _ = tx.blocking_send(Ok(chunk));
                }
                return;
            }
            Err(e) => {
                // What was read before the damage is good.
                if !chunk.is_empty() && tx.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() {
                    return;
                }
                let _ = tx.blocking_send(Err(e));
                return;
            }
        }
    }
}

#[async_trait]
impl EventSource for FileSource {
    async fn next(&mut self, max_records: usize, max_bytes: usize) -> StoreResult<Option<SourceBatch>> {
        if self.waiting.len() == 0 && !self.ended {
            match self.rx.recv().await {
                Some(Ok(chunk)) => self.waiting = chunk.into_iter(),
                Some(Err(e)) => {
                    self.ended = true;
                    return Err(StoreError::new(ErrorKind::Corrupt, "log", format!("{}: {e}", self.name)));
                }
                None => self.ended = true,
            }
        }
        // From here on nothing waits, so that a dropped call loses nothing.
        let (mut records, mut bytes, mut last) = (Vec::new(), 0, 0);
        while records.len() < max_records && bytes < max_bytes {
            let Some(line) = self.waiting.next() else {
                match self.rx.try_recv() {
                    Ok(Ok(chunk)) => {
                        self.waiting = chunk.into_iter();
                        continue;
                    }
                    Ok(Err(e)) => {
                        self.ended = true;
                        if records.is_empty() {
                            return Err(StoreError::new(ErrorKind::Corrupt, "log", format!("{}: {e}", self.name)));
                        }
                        // The records before the damage first; the error is told when they are done.
                        let (tx, rx) = mpsc::channel(1);
                        let _ = tx.try_send(Err(e));
                        self.rx = rx;
                        self.ended = false;
                        break;
                    }
                    Err(_) => break,
                }
            };
            bytes += line.bytes.len();
            last = line.number;
            records.push(Record {
                origin: format!("{}:{}", self.name, line.number),
                bytes: line.bytes.into(),
                tenant: self.tenant.clone(),
                oversized: line.cut,
                ..Record::default()
            });
        }
        Ok((!records.is_empty()).then(|| SourceBatch { records, position: last.to_string(), ..SourceBatch::default() }))
    }

    async fn commit(&mut self, position: &str) -> StoreResult<()> {
        let Some((key, same_file, positions)) = &self.resume else { return Ok(()) };
        let done = self.ended && self.waiting.len() == 0;
        if done { positions.remove(key).await } else { positions.set(key, &format!("{same_file}@{position}")).await }
    }
}

/// Counts what goes through, for the progress bar.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}
