//! Bodies: read whole, within bounds of size and time, and unpacked within the same bound.
//!
//! Never holds more than the limit in memory, whatever a caller claims about lengths.

use std::{io::Read, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, StatusCode, header},
};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::problem::Problem;
use crate::config::Limits;

fn too_large(limit: usize) -> Problem {
    Problem::body(format!("the body is larger than {limit} bytes")).status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packed {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
}

/// What `Content-Encoding` says.
pub fn packed(headers: &HeaderMap) -> Result<Packed, Problem> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Packed::Plain) };
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Packed::Plain),
        "gzip" | "x-gzip" => Ok(Packed::Gzip),
        _ => Err(Problem::parameter("Content-Encoding", "is not supported", "gzip, identity")
            .status(StatusCode::UNSUPPORTED_MEDIA_TYPE)),
    }
}

/// The bytes of a body as they arrive.
pub async fn read(body: Body, limits: &Limits) -> Result<Bytes, Problem> {
    let patience = Duration::from_millis(limits.body_timeout_ms);
    let late = || Problem::body("the body did not arrive in time").status(StatusCode::REQUEST_TIMEOUT);
    timeout(patience, collect(body, limits.body_bytes)).await.map_err(|_| late())?
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut chunks = body.into_data_stream();
    let mut out: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::body("the body could not be read to its end"))?;
        if out.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        out.extend_from_slice(&chunk);
    }
    Ok(out.into())
}

/// Unpacks. Computes; callers keep it off the threads that serve.
pub fn unpack(bytes: Bytes, packed: Packed, limit: usize) -> Result<Bytes, Problem> {
    if packed == Packed::Plain {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    let mut reader = MultiGzDecoder::new(&*bytes).take(limit as u64 + 1);
    reader.read_to_end(&mut out).map_err(|_| Problem::body("the body is not valid gzip"))?;
    if out.len() > limit {
        return Err(Problem::body(format!("the body is larger than {limit} bytes after decompression"))
            .status(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Ok(out.into())
}
