//! The three dialects: what is sent where, and what comes back.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A kind of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `POST /v1/embeddings`, as OpenAI and many others have it.
    OpenAi,
    /// `POST /v2/embed` of Cohere.
    Cohere,
    /// `POST /embed` of text-embeddings-inference.
    Tei,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// A vector for each text, in the order sent.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens that the service counted, where it says.
    pub tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OpenAiReply {
    data: Vec<OpenAiRow>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct OpenAiRow {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CohereReply {
    embeddings: CohereRows,
    meta: Option<Value>,
}

#[derive(Deserialize)]
struct CohereRows {
    float: Vec<Vec<f32>>,
}

impl Api {
    /// The path of the call.
    pub const fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1/embeddings",
            Self::Cohere => "/v2/embed",
            Self::Tei => "/embed",
        }
    }

    /// Where the service usually is, where there is one such place.
    pub const fn usual_url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com"),
            Self::Cohere => Some("https://api.cohere.com"),
            Self::Tei => None,
        }
    }

    /// Texts that a request may hold.
    pub const fn most_texts(self) -> usize {
        match self {
            Self::OpenAi => 2048,
            Self::Cohere => 96,
            Self::Tei => 32,
        }
    }

    /// As labels of metrics and errors show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Cohere => "cohere",
            Self::Tei => "tei",
        }
    }

    /// The body of a request. An empty text, which the services refuse, goes as a space.
    pub fn request(self, model: &str, texts: &[&str]) -> Value {
        let texts = texts.iter().map(|t| if t.is_empty() { " " } else { t }).collect::<Vec<_>>();
        match self {
            Self::OpenAi => json!({"model": model, "input": texts, "encoding_format": "float"}),
            Self::Cohere => {
                json!({"model": model, "texts": texts, "input_type": "clustering", "embedding_types": ["float"], "truncate": "END"})
            }
            Self::Tei => json!({"inputs": texts, "truncate": true, "normalize": true}),
        }
    }

    /// Reads an answer to `sent` texts of vectors of `dimension`. Whatever does not fit is an error in words.
    pub fn reply(self, body: &[u8], sent: usize, dimension: usize) -> Result<Reply, String> {
        let unreadable = |e: serde_json::Error| format!("an answer that cannot be read ({e})");
        let reply = match self {
            Self::OpenAi => {
                let mut reply: OpenAiReply = serde_json::from_slice(body).map_err(unreadable)?;
                reply.data.sort_by_key(|row| row.index);
                if reply.data.iter().enumerate().any(|(i, row)| row.index != i) {
                    return Err("an answer whose indexes are not those of the texts".into());
                }
                let tokens = reply.usage.and_then(|u| u.total_tokens);
                Reply { vectors: reply.data.into_iter().map(|row| row.embedding).collect(), tokens }
            }
            Self::Cohere => {
                let reply: CohereReply = serde_json::from_slice(body).map_err(unreadable)?;
                let tokens = reply.meta.as_ref().and_then(|m| m.pointer("/billed_units/input_tokens")).and_then(Value::as_u64);
                Reply { vectors: reply.embeddings.float, tokens }
            }
            Self::Tei => Reply { vectors: serde_json::from_slice(body).map_err(unreadable)?, tokens: None },
        };
        if reply.vectors.len() != sent {
            return Err(format!("{} vectors for {sent} texts", reply.vectors.len()));
        }
        if let Some(v) = reply.vectors.iter().find(|v| v.len() != dimension) {
            return Err(format!("a vector of {} numbers; {dimension} are configured", v.len()));
        }
        let zero = |v: &Vec<f32>| !v.iter().any(|x| *x != 0.0);
        if reply.vectors.iter().any(|v| zero(v) || v.iter().any(|x| !x.is_finite())) {
            return Err("a vector without direction".into());
        }
        Ok(reply)
    }
}
