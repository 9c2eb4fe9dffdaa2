//! What `nearcast embed` does: lines of text in, vectors out, and what it took.
//!
//! Reads any bytes: a line that is not UTF-8 is read as far as it is. Every line gives a vector, an empty one too.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
};

use crate::{
    EmbedError,
    model::{EncodeStats, TextModel, encode_all},
};

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON array of numbers a line, in the order of the texts.
    Ndjson,
    /// One NumPy array (version 1.0) of little-endian `f32`, a row a text.
    Npy,
}

/// Lines read at once, and the bytes after which no more are read.
const BLOCK: usize = 8192;
const BLOCK_BYTES: usize = 4 << 20;
/// Bytes of a line that are read; no model reads as many. The rest of the line is skipped.
const LINE_BYTES: usize = 4 << 20;

/// Embeds each line of `input` on `threads` threads and writes the vectors to `output`. The seconds counted are those of
/// tokenizing and computing: not of loading the model, and not of reading and writing.
pub fn embed(
    model: &Arc<dyn TextModel>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    format: Format,
    threads: usize,
) -> Result<EncodeStats, EmbedError> {
    embed_with(model.info().dimension, input, output, format, &mut |texts, vectors| {
        encode_all(model, texts, threads, &mut |_, v| vectors.extend_from_slice(v))
    })
}

/// Puts the vectors of a block of texts behind those that are there.
pub type EncodeBlock<'a> = dyn FnMut(&[Arc<str>], &mut Vec<f32>) -> Result<EncodeStats, EmbedError> + 'a;

/// The same with whatever turns a block of texts into vectors of `dimension`, put behind those that are there.
///
/// Texts are held a block at a time. Vectors too, but for [`Format::Npy`]: there the number of rows stands before the first.
pub fn embed_with(
    dimension: usize,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    format: Format,
    encode: &mut EncodeBlock<'_>,
) -> Result<EncodeStats, EmbedError> {
    let written = |done: io::Result<()>| done.map_err(|e| EmbedError::io("the output", e));
    let mut total = EncodeStats::default();
    let mut vectors = Vec::new();
    loop {
        let texts = read_lines(input).map_err(|e| EmbedError::io("the input", e))?;
        if texts.is_empty() {
            break;
        }
        let stats = encode(&texts, &mut vectors)?;
        total.texts += stats.texts;
        total.tokens += stats.tokens;
        total.seconds += stats.seconds;
        if format == Format::Ndjson {
            written(write_ndjson(output, &vectors, dimension))?;
            vectors.clear();
        }
    }
    if format == Format::Npy {
        written(write_npy(output, &vectors, dimension))?;
    }
    written(output.flush())?;
    Ok(total)
}

fn read_lines(input: &mut dyn BufRead) -> io::Result<Vec<Arc<str>>> {
    let mut texts = Vec::new();
    let mut line = Vec::new();
    let mut bytes = 0;
    while texts.len() < BLOCK && bytes < BLOCK_BYTES && read_line(input, &mut line)? {
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        bytes += line.len();
        texts.push(Arc::from(String::from_utf8_lossy(&line)));
    }
    Ok(texts)
}

/// The next line without its end, as far as it is kept; false where there is none.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if buffer.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = buffer.iter().position(|&b| b == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&part[..part.len().min(LINE_BYTES - line.len())]);
        let used = end.map_or(buffer.len(), |e| e + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn write_ndjson(output: &mut dyn Write, vectors: &[f32], dimension: usize) -> io::Result<()> {
    let mut line = Vec::with_capacity(dimension * 14);
    for v in vectors.chunks_exact(dimension) {
        line.clear();
        serde_json::to_writer(&mut line, v)?;
        line.push(b'\n');
        output.write_all(&line)?;
    }
    Ok(())
}

fn write_npy(output: &mut dyn Write, vectors: &[f32], dimension: usize) -> io::Result<()> {
    let rows = vectors.len() / dimension;
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimension}), }}");
    // Magic, version and length take ten bytes; the whole is a multiple of 64 and ends in a newline.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    output.write_all(b"\x93NUMPY\x01\x00")?;
    output.write_all(&(header.len() as u16).to_le_bytes())?;
    output.write_all(header.as_bytes())?;
    let mut row = Vec::with_capacity(dimension * 4);
    for v in vectors.chunks_exact(dimension) {
        row.clear();
        row.extend(v.iter().flat_map(|x| x.to_le_bytes()));
        output.write_all(&row)?;
    }
    Ok(())
}
