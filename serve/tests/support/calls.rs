//! Calls to a router without a network.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use nearcast_serve::{Freshness, Memory, Recommender, ServeConfig, http::router_of};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::Fakes;

/// A router and what stands behind it.
pub struct Caller {
    pub fakes: Arc<Fakes>,
    pub recommender: Arc<Recommender>,
    pub router: Router,
    pub shutdown: CancellationToken,
}

/// An answer, read to its end.
pub struct Answered {
    pub status: StatusCode,
    pub headers: axum::http::HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Caller {
    pub fn new(fakes: Arc<Fakes>, config: ServeConfig) -> Self {
        // Others write the world: what was read is fresh for a moment only.
        let freshness = Freshness::Shared { max_age: Duration::from_millis(config.items.fresh_ms) };
        let stores = fakes.stores(Memory::new(freshness, &config.items));
        let recommender = Arc::new(Recommender::new(stores, config).unwrap());
        let shutdown = CancellationToken::new();
        let router = router_of(recommender.clone(), shutdown.clone());
        Self { fakes, recommender, router, shutdown }
    }

    pub async fn send(&self, request: Request<Body>) -> Answered {
        let response = self.router.clone().oneshot(request).await.unwrap();
        read(response).await
    }

    pub async fn get(&self, path: &str) -> Answered {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answered {
        self.send(Request::post(path).body(body.into()).unwrap()).await
    }
}

async fn read(response: Response<Body>) -> Answered {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_default();
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answered { status: parts.status, headers: parts.headers, text, json }
}

impl Answered {
    /// That this is a problem with this status, and gives its text.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(self.json["status"], status);
        self.json["detail"].as_str().unwrap().to_owned()
    }

    pub fn ids(&self) -> Vec<String> {
        let list = self.json["recommendations"].as_array().unwrap_or_else(|| panic!("{}", self.text));
        list.iter().map(|r| r["item_id"].as_str().unwrap().to_owned()).collect()
    }

    pub fn degraded(&self) -> Vec<String> {
        self.json["degraded"].as_array().unwrap().iter().map(|d| d.as_str().unwrap().to_owned()).collect()
    }
}
