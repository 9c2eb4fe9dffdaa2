//! Finding a wheel on a Python package index (the "simple" API, PEP 503 and PEP 691).
//!
//! Indexes and mirrors answer in JSON or in HTML, whatever was asked for; both are read.

use serde::Deserialize;

/// A wheel that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wheel {
    pub url: String,
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    files: Vec<PageFile>,
}

#[derive(Deserialize)]
struct PageFile {
    url: String,
    filename: String,
    #[serde(default)]
    hashes: Hashes,
}

#[derive(Deserialize, Default)]
struct Hashes {
    sha256: Option<String>,
}

/// The last wheel that an index page at `base` lists.
pub(crate) fn last_wheel(base: &str, page: &str) -> Option<Wheel> {
    if page.trim_start().starts_with('{') {
        let page: Page = serde_json::from_str(page).ok()?;
        let file = page.files.into_iter().rfind(|f| f.filename.ends_with(".whl"))?;
        return Some(Wheel { url: join(base, &file.url)?, sha256: file.hashes.sha256 });
    }
    page.split("href=").skip(1).filter_map(|rest| link(base, rest)).last()
}

fn link(base: &str, rest: &str) -> Option<Wheel> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let href = rest[1..].split(quote).next()?.replace("&amp;", "&");
    let (url, fragment) = href.split_once('#').unwrap_or((&href, ""));
    url.ends_with(".whl").then_some(())?;
    Some(Wheel { url: join(base, url)?, sha256: fragment.strip_prefix("sha256=").map(str::to_owned) })
}

/// An address relative to the page it stood on.
fn join(base: &str, url: &str) -> Option<String> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Some(url.to_owned());
    }
    let scheme = base.find("://")? + 3;
    let host_end = base[scheme..].find('/').map_or(base.len(), |i| scheme + i);
    if let Some(path) = url.strip_prefix('/') {
        return Some(format!("{}/{path}", &base[..host_end]));
    }
    let (mut folder, mut rest) = (base.trim_end_matches('/'), url);
    while let Some(up) = rest.strip_prefix("../") {
        folder = folder.rsplit_once('/')?.0;
        rest = up;
    }
    (folder.len() >= host_end).then(|| format!("{folder}/{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_page() {
        let html = r#"<a href="https://h/x-1.tar.gz#sha256=aa">x</a><a href='../../p/x-1-py3-none-any.whl#sha256=bb' data-x="1">x</a>"#;
        let wheel = last_wheel("https://pypi.example/simple/x/", html).unwrap();
        assert_eq!(wheel, Wheel { url: "https://pypi.example/p/x-1-py3-none-any.whl".into(), sha256: Some("bb".into()) });
        let json = r#"{"files":[{"filename":"x.whl","url":"/f/x.whl","hashes":{"sha256":"cc"}},{"filename":"x.tar.gz","url":"/f/x.tar.gz","hashes":{}}]}"#;
        let wheel = last_wheel("https://pypi.example/simple/x/", json).unwrap();
        assert_eq!(wheel, Wheel { url: "https://pypi.example/f/x.whl".into(), sha256: Some("cc".into()) });
        assert_eq!(last_wheel("https://pypi.example/simple/x/", "<html>nothing</html>"), None);
        assert_eq!(last_wheel("https://h/", "<a href=\"../../../x.whl\">"), None);
    }
}
