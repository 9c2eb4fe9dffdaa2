//! One file of rows: written with its checksum, read row by row.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use flate2::{Compression, GzBuilder, read::MultiGzDecoder};
use nearcast_domain::{Event, event::hex};
use sha2::{Digest, Sha256};

use super::{
    TransferError,
    json::to_json,
    parquet,
    rows::{Dataset, Encoding, Row},
};

/// What a file that was written is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub bytes: u64,
    pub sha256: String,
}

/// Digests what goes through.
pub(super) struct Hashing<W> {
    inner: W,
    sha: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.sha.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes a file whole, durably. At least one row.
pub(super) fn write(path: &Path, encoding: Encoding, dataset: Dataset, rows: &[Row]) -> Result<Written, TransferError> {
    let io = |e| TransferError::io(path)(e);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(io)?;
    }
    let file = BufWriter::with_capacity(1 << 18, File::create(path).map_err(io)?);
    let out = Hashing { inner: file, sha: Sha256::new(), bytes: 0 };
    let mut out = match encoding {
        Encoding::Parquet => parquet::write(out, dataset, rows).map_err(|e| TransferError::format(path, e))?,
        Encoding::Ndjson => lines(out, rows).map_err(io)?,
    };
    out.flush().map_err(io)?;
    let Hashing { inner, sha, bytes } = out;
    let file = inner.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    Ok(Written { bytes, sha256: hex(&sha.finalize()) })
}

fn lines<W: Write>(out: W, rows: &[Row]) -> io::Result<W> {
    // No time in the header: the same rows give the same bytes.
    let mut zip = GzBuilder::new().mtime(0).write(out, Compression::new(6));
    for row in rows {
        let mut line = match row {
            Row::Event(e) => to_json(e),
            Row::User(u) => to_json(u),
            Row::Embedded(e) => to_json(e),
        }?;
        line.push(b'\n');
        zip.write_all(&line)?;
    }
    zip.finish()
}

/// The digest of a file as it is, and its size.
pub(super) fn digest(path: &Path) -> io::Result<Written> {
    let mut out = Hashing { inner: io::sink(), sha: Sha256::new(), bytes: 0 };
    io::copy(&mut File::open(path)?, &mut out)?;
    Ok(Written { bytes: out.bytes, sha256: hex(&out.sha.finalize()) })
}

/// Rows as they come, or why no more come.
pub(super) type Rows = Box<dyn Iterator<Item = Result<Row, TransferError>> + Send>;

/// Reads a file, a few rows at a time.
pub(super) fn read(path: &Path, encoding: Encoding, dataset: Dataset) -> Result<Rows, TransferError> {
    let file = File::open(path).map_err(TransferError::io(path))?;
    let path = path.to_owned();
    match encoding {
        Encoding::Parquet => {
            let batches = parquet::read(file).map_err(|e| TransferError::format(&path, e))?;
            let rows = batches.map(move |batch| batch.and_then(|b| parquet::rows(dataset, &b)));
            Ok(Box::new(rows.flat_map(move |rows| -> Rows {
                match rows {
                    Ok(rows) => Box::new(rows.into_iter().map(Ok)),
                    Err(e) => Box::new(std::iter::once(Err(TransferError::format(&path, e)))),
                }
            })))
        }
        Encoding::Ndjson => {
            let lines = BufReader::with_capacity(1 << 18, MultiGzDecoder::new(BufReader::new(file))).lines();
            Ok(Box::new(lines.enumerate().map(move |(at, line)| {
                let line = line.map_err(TransferError::io(&path))?;
                parse(dataset, &line).map_err(|e| TransferError::format(format!("{}:{}", path.display(), at + 1), e))
            })))
        }
    }
}

fn parse(dataset: Dataset, line: &str) -> serde_json::Result<Row> {
    Ok(match dataset {
        Dataset::Events | Dataset::Items => Row::Event(serde_json::from_str::<Event>(line)?),
        Dataset::Users => Row::User(serde_json::from_str(line)?),
        Dataset::Profiles | Dataset::MessageEmbeddings | Dataset::ItemEmbeddings => Row::Embedded(serde_json::from_str(line)?),
    })
}
