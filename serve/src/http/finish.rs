//! What becomes of an answer on its way out: how long it may be kept, whether the caller has it already, and whether it travels packed.
//!
//! An answer is packed only where the caller takes it and it is long enough to gain by it. Personal answers are never kept by others.

use std::{hash::BuildHasher, io::Write};

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use foldhash::fast::FixedState;

/// Shorter ones fit into one packet as they are.
const WORTH_IT: u64 = 1_024;
/// Longer ones are packed on a thread of their own: the runtime's threads answer others meanwhile.
const LONG: usize = 32 * 1_024;

const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
pub(super) const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");

/// How an answer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Zstd,
    Brotli,
    Gzip,
}

impl Packing {
    const ALL: [(&str, Self); 3] = [("zstd", Self::Zstd), ("br", Self::Brotli), ("gzip", Self::Gzip)];

    /// The one that the caller likes best, and of those the best.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        let said =
            || headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
        for (name, packing) in Self::ALL {
            let weight = said().find_map(|part| weight_of(part, name)).or_else(|| said().find_map(|part| weight_of(part, "*")));
            if let Some(weight) = weight.filter(|w| *w > 0.0)
                && best.is_none_or(|(b, _)| weight > b)
            {
                best = Some((weight, packing));
            }
        }
        best.map(|(_, packing)| packing)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    fn pack(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let out = Vec::with_capacity(bytes.len() / 3);
        match self {
            Self::Zstd => zstd::bulk::compress(bytes, 3),
            Self::Brotli => {
                let mut packer = brotli::CompressorWriter::new(out, 4_096, 4, 20);
                packer.write_all(bytes)?;
                packer.flush()?;
                Ok(packer.into_inner())
            }
            Self::Gzip => {
                let mut packer = flate2::write::GzEncoder::new(out, flate2::Compression::new(5));
                packer.write_all(bytes)?;
                packer.finish()
            }
        }
    }
}

/// `gzip;q=0.5` says 0.5 of `gzip`, and nothing of others.
fn weight_of(part: &str, name: &str) -> Option<f32> {
    let mut pieces = part.split(';').map(str::trim);
    let said = pieces.next()?;
    let same = said.eq_ignore_ascii_case(name) || (name == "gzip" && said.eq_ignore_ascii_case("x-gzip"));
    let weight = pieces.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
    same.then(|| weight.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
}

/// What a caller takes.
#[derive(Debug, Clone)]
pub struct Wishes {
    packing: Option<Packing>,
    held: Option<HeaderValue>,
    reads: bool,
}

impl Wishes {
    /// As the request says.
    pub fn of(request: &Request) -> Self {
        let (method, headers) = (request.method(), request.headers());
        let reads = method == Method::GET;
        Self {
            packing: if method == Method::HEAD { None } else { Packing::of(headers) },
            held: headers.get(header::IF_NONE_MATCH).filter(|_| reads).cloned(),
            reads,
        }
    }
}

/// A tag for the bytes of an answer. Weak: the same bytes packed otherwise are as good.
pub fn tag(bytes: &[u8]) -> HeaderValue {
    let hash = FixedState::with_seed(bytes.len() as u64).hash_one(bytes);
    HeaderValue::try_from(format!("W/\"{hash:016x}\"")).unwrap_or(HeaderValue::from_static("W/\"\""))
}

/// Marks, spares and packs an answer. `fleeting`: it says how things are now and is never the same. `tagged`: it is given a tag where
/// it has none.
pub async fn finish(mut response: Response, wishes: &Wishes, fleeting: bool, tagged: bool) -> Response {
    let good = response.status() == StatusCode::OK && wishes.reads && !fleeting;
    let headers = response.headers_mut();
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, if good { PRIVATE } else { NOT_KEPT });
    }
    let packing = wishes.packing.filter(|_| worth_packing(&response));
    let tagged = tagged && good && !response.headers().contains_key(header::ETAG);
    if packing.is_none() && !tagged {
        return spared(response, wishes);
    }
    let (mut parts, body) = response.into_parts();
    let Ok(mut bytes) = to_bytes(body, usize::MAX).await else { return Response::from_parts(parts, Body::empty()) };
    if tagged {
        parts.headers.insert(header::ETAG, tag(&bytes));
    }
    if is_held(&parts.headers, wishes) {
        return spared(Response::from_parts(parts, Body::from(bytes)), wishes);
    }
    if let Some(packing) = packing
        && let Some(packed) = packed(packing, bytes.clone()).await.filter(|p| p.len() < bytes.len())
    {
        bytes = packed;
        parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(packing.name()));
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// A caller that has it already is spared it.
fn spared(mut response: Response, wishes: &Wishes) -> Response {
    if is_held(response.headers(), wishes) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    response
}

fn is_held(headers: &HeaderMap, wishes: &Wishes) -> bool {
    let (Some(held), Some(tag)) = (&wishes.held, headers.get(header::ETAG)) else { return false };
    let (Ok(held), Ok(tag)) = (held.to_str(), tag.to_str()) else { return false };
    let bare = |t: &str| t.trim().trim_start_matches("W/").to_owned();
    held.split(',').any(|h| h.trim() == "*" || bare(h) == bare(tag))
}

/// Whether an answer is long enough, of a kind that shrinks. Says in it that it may look otherwise to others.
fn worth_packing(response: &Response) -> bool {
    let headers = response.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|k| k.to_str().ok()).unwrap_or_default();
    let shrinks = ["application/json", "application/problem+json", "text/", "image/svg"].iter().any(|k| kind.starts_with(k));
    let long = response.body().size_hint().exact().is_some_and(|n| n >= WORTH_IT);
    shrinks && long && !headers.contains_key(header::CONTENT_ENCODING)
}

async fn packed(packing: Packing, bytes: Bytes) -> Option<Bytes> {
    let done = match bytes.len() > LONG {
        true => tokio::task::spawn_blocking(move || packing.pack(&bytes)).await.ok()?,
        false => packing.pack(&bytes),
    };
    done.map(Bytes::from).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn wanted(text: &str) -> Option<Packing> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, text.parse().unwrap());
        Packing::of(&headers)
    }

    #[test]
    fn the_best_of_what_the_caller_takes() {
        assert_eq!(wanted("gzip, deflate, br, zstd"), Some(Packing::Zstd));
        assert_eq!(wanted("gzip, br;q=0.9"), Some(Packing::Gzip));
        assert_eq!(wanted("GZIP;q=0"), None);
        assert_eq!(wanted("*;q=0.5, zstd;q=0"), Some(Packing::Brotli));
        assert_eq!(wanted("identity"), None);
        assert_eq!(wanted("gzip;q=nonsense"), None);
    }

    #[test]
    fn what_is_packed_is_unpacked_again() {
        let text = "{\"item_id\":\"i1\",\"score\":0.5},".repeat(200);
        for (_, packing) in Packing::ALL {
            let packed = packing.pack(text.as_bytes()).unwrap();
            assert!(packed.len() * 5 < text.len());
            let mut back = String::new();
            match packing {
                Packing::Zstd => back = String::from_utf8(zstd::bulk::decompress(&packed, 1 << 20).unwrap()).unwrap(),
                Packing::Brotli => drop(brotli::Decompressor::new(&*packed, 4_096).read_to_string(&mut back).unwrap()),
                Packing::Gzip => drop(flate2::read::GzDecoder::new(&*packed).read_to_string(&mut back).unwrap()),
            }
            assert_eq!(back, text);
        }
    }
}
