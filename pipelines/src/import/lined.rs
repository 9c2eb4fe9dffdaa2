//! A reader that knows at which line it is and how much it has read, plain or unpacked by gzip.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::read::MultiGzDecoder;

use super::ReadError;

/// Counts line ends that are consumed.
pub(super) struct Lined<R> {
    inner: R,
    pub line: Arc<AtomicU64>,
}

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

/// Opens a file; `read` counts its bytes as they lie on the disk.
pub(super) fn open(path: &Path, read: Arc<AtomicU64>) -> Result<Lined<Box<dyn BufRead>>, ReadError> {
    let failed = |e| ReadError::at(path, 0, e);
    let file = File::open(path).map_err(failed)?;
    let mut file = BufReader::with_capacity(1 << 18, Counted { inner: file, read });
    let zipped = file.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    let inner: Box<dyn BufRead> =
        if zipped { Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file))) } else { Box::new(file) };
    Ok(Lined { inner, line: Arc::new(AtomicU64::new(1)) })
}

impl<R: BufRead> Read for Lined<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = {
            let there = self.inner.fill_buf()?;
            let n = there.len().min(buf.len());
            buf[..n].copy_from_slice(&there[..n]);
            n
        };
        self.consume(n);
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Lined<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        if let Ok(there) = self.inner.fill_buf() {
            let ends = there[..n.min(there.len())].iter().filter(|b| **b == b'\n').count();
            self.line.fetch_add(ends as u64, Ordering::Relaxed);
        }
        self.inner.consume(n);
    }
}
