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

/// Lines read at once where nothing has to be known of the rest.
const BLOCK: usize = 8192;

/// Embeds each line of `input` on `threads` threads and writes the vectors to `output`. The seconds counted are those of
/// tokenizing and computing: not of loading the model, and not of reading and writing.
pub fn embed(
    model: &Arc<dyn TextModel>,
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    format: Format,
    threads: usize,
) -> Result<EncodeStats, EmbedError> {
    let dimension = model.info().dimension;
    let block = match format {
        Format::Ndjson => BLOCK,
        // The number of rows stands before the first of them.
        Format::Npy => usize::MAX,
    };
    let mut total = EncodeStats::default();
    let mut vectors = Vec::new();
    loop {
        let texts = read_lines(input, block).map_err(|e| EmbedError::io("the input", e))?;
        let last = texts.len() < block;
        vectors.clear();
        let stats = encode_all(model, &texts, threads, &mut |_, v| vectors.extend_from_slice(v))?;
        total.texts += stats.texts;
        total.tokens += stats.tokens;
        total.seconds += stats.seconds;
        let written = match format {
            Format::Ndjson => write_ndjson(output, &vectors, dimension),
            Format::Npy => write_npy(output, &vectors, dimension),
        };
        written.map_err(|e| EmbedError::io("the output", e))?;
        if last {
            output.flush().map_err(|e| EmbedError::io("the output", e))?;
            return Ok(total);
        }
    }
}

fn read_lines(input: &mut dyn BufRead, at_most: usize) -> io::Result<Vec<Arc<str>>> {
    let mut texts = Vec::new();
    let mut line = Vec::new();
    while texts.len() < at_most {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        texts.push(Arc::from(String::from_utf8_lossy(&line)));
    }
    Ok(texts)
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
    let bytes = vectors.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    output.write_all(&bytes)
}
