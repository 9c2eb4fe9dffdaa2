//! The page at `/`: a town of users to look at, their recommendations and the reasons, live.
//!
//! Static files in the binary; everything shown comes from the same public API that any client uses. The page loads nothing
//! from elsewhere, and its policy forbids it to: no other origin, no inline script, no frame around it.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// What the page may do: load its own files and talk to its own server.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; \
    img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the page.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All files, by the path at which they are served.
static ASSETS: [Asset; 13] = [
    text("/", HTML, include_str!("assets/index.html")),
    text("/page/base.css", CSS, include_str!("assets/base.css")),
    text("/page/layout.css", CSS, include_str!("assets/layout.css")),
    text("/page/parts.css", CSS, include_str!("assets/parts.css")),
    text("/page/theme.js", SCRIPT, include_str!("assets/theme.js")),
    text("/page/app.js", SCRIPT, include_str!("assets/app.js")),
    text("/page/api.js", SCRIPT, include_str!("assets/api.js")),
    text("/page/words.js", SCRIPT, include_str!("assets/words.js")),
    text("/page/picker.js", SCRIPT, include_str!("assets/picker.js")),
    text("/page/views.js", SCRIPT, include_str!("assets/views.js")),
    text("/page/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    Asset { path: "/page/inter.woff2", kind: "font/woff2", bytes: include_bytes!("assets/inter.woff2") },
    Asset { path: "/page/newsreader.woff2", kind: "font/woff2", bytes: include_bytes!("assets/newsreader.woff2") },
];

const fn text(path: &'static str, kind: &'static str, text: &'static str) -> Asset {
    Asset { path, kind, bytes: text.as_bytes() }
}

/// The routes of the page: `/` and `/page/…`. Needs no state.
pub fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    ASSETS.iter().fold(Router::new(), |r, asset| r.route(asset.path, get(move || async move { asset.response() })))
}

impl Asset {
    fn response(&self) -> Response {
        // A font is the same until it has another name; the rest changes with the binary.
        let cache = if self.kind == "font/woff2" { "public, max-age=604800" } else { "no-cache" };
        let headers: [(HeaderName, HeaderValue); 5] = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.kind)),
            (header::CACHE_CONTROL, HeaderValue::from_static(cache)),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        (headers, self.bytes).into_response()
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn every_file_is_served_under_the_policy() {
        for asset in &ASSETS {
            let request = Request::get(asset.path).body(Body::empty()).unwrap();
            let answer = router::<()>().with_state(()).oneshot(request).await.unwrap();
            assert_eq!(answer.status(), 200, "{}", asset.path);
            assert_eq!(answer.headers()[header::CONTENT_TYPE], asset.kind);
            assert_eq!(answer.headers()[header::CONTENT_SECURITY_POLICY], CONTENT_SECURITY_POLICY);
        }
    }

    /// Every file that another names is served here, and none names another origin.
    #[test]
    fn the_page_stands_alone() {
        let texts = ASSETS.iter().filter(|a| a.kind != "font/woff2");
        for asset in texts {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for foreign in ["https://", "http://", "src=\"//", "url(//", "style=\"", "onclick="] {
                let allowed = asset.kind == "image/svg+xml" && foreign == "http://";
                assert!(
                    allowed || !text.replace("http://www.w3.org/2000/svg", "").contains(foreign),
                    "{foreign} in {}",
                    asset.path
                );
            }
            let named = text.split(['"', '\'', '(', ')']).filter(|part| part.starts_with("/page/") || part.starts_with("./"));
            for name in named {
                let path = name.replacen("./", "/page/", 1);
                assert!(ASSETS.iter().any(|a| a.path == path), "{} names {name}", asset.path);
            }
        }
    }
}
