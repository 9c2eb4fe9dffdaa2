//! `GET /docs`: the contract for people, made from the OpenAPI document. One page without scripts and without anything
//! from elsewhere.

use std::{fmt::Write, sync::LazyLock};

use axum::{
    http::header,
    response::{Html, IntoResponse},
};
use serde_json::Value;

use super::openapi::document;

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:.5rem;margin:.5rem 0;padding:.5rem .8rem}
summary{cursor:pointer}code,pre{font:14px/1.4 ui-monospace,monospace}
b.m{display:inline-block;min-width:4.2rem;font:600 13px ui-monospace,monospace}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;
border-top:1px solid var(--line)}th{font-weight:600}.wrap{overflow-x:auto}small{opacity:.75}";

static PAGE: LazyLock<String> = LazyLock::new(|| page(&serde_json::from_str(document()).unwrap_or_default()));

/// The contract for people
#[utoipa::path(get, path = "/docs", tag = "operations",
    responses((status = 200, description = "A page", body = String, content_type = "text/html")))]
pub async fn docs() -> impl IntoResponse {
    const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE.as_str()))
}

fn page(doc: &Value) -> String {
    let mut out = String::new();
    let info = &doc["info"];
    let title = escaped(&info["title"]);
    let _ = write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>\
         <title>{title}: API</title><style>{STYLE}</style><h1>{title} <small>{}</small></h1><p>{}</p>\
         <p>OpenAPI {}: <a href=/openapi.json>openapi.json</a></p>",
        escaped(&info["version"]),
        escaped(&info["description"]),
        escaped(&doc["openapi"]),
    );
    for tag in doc["tags"].as_array().into_iter().flatten() {
        let _ = write!(out, "<h2>{}</h2><p>{}</p>", escaped(&tag["name"]), escaped(&tag["description"]));
        for (path, methods) in doc["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if operation["tags"].as_array().is_some_and(|t| t.contains(&tag["name"])) {
                    write_operation(&mut out, path, method, operation);
                }
            }
        }
    }
    out.push_str("<h2 id=shapes>Shapes</h2>");
    for (name, schema) in doc["components"]["schemas"].as_object().into_iter().flatten() {
        let name = escape(name);
        let _ = write!(out, "<details id='{name}'><summary><code>{name}</code> {}</summary>", escaped(&schema["description"]));
        write_fields(&mut out, schema);
        out.push_str("</details>");
    }
    out
}

fn write_operation(out: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        out,
        "<details><summary><b class=m>{}</b> <code>{}</code> {}</summary><p>{}</p>",
        escape(&method.to_uppercase()),
        escape(path),
        escaped(&operation["summary"]),
        escaped(&operation["description"]),
    );
    let parameters = operation["parameters"].as_array().filter(|p| !p.is_empty());
    if let Some(parameters) = parameters {
        out.push_str("<div class=wrap><table><tr><th>parameter<th>in<th>type<th>");
        for p in parameters {
            let _ = write!(
                out,
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
                escaped(&p["name"]),
                escaped(&p["in"]),
                type_of(&p["schema"]),
                escaped(&p["description"]),
            );
        }
        out.push_str("</table></div>");
    }
    for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let _ = write!(out, "<p>Body <code>{}</code>: {}</p>", escape(kind), type_of(&content["schema"]));
    }
    out.push_str("<div class=wrap><table><tr><th>status<th>answer");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let _ = write!(out, "<tr><td>{}<td>{} ", escape(status), escaped(&response["description"]));
        for (kind, content) in response["content"].as_object().into_iter().flatten() {
            let _ = write!(out, "<code>{}</code> {} ", escape(kind), type_of(&content["schema"]));
        }
    }
    out.push_str("</table></div></details>");
}

fn write_fields(out: &mut String, schema: &Value) {
    let parts = schema["allOf"].as_array().map_or_else(|| vec![schema], |all| all.iter().collect());
    out.push_str("<div class=wrap><table>");
    for part in parts {
        if part.get("$ref").is_some() {
            let _ = write!(out, "<tr><td>all of<td>{}<td>", type_of(part));
        }
        for (name, field) in part["properties"].as_object().into_iter().flatten() {
            let _ = write!(
                out,
                "<tr><td><code>{}</code><td>{}<td>{}",
                escape(name),
                type_of(field),
                escaped(&field["description"]),
            );
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(escaped).collect();
        let _ = write!(out, "<tr><td>one of<td><code>{}</code>", values.join("</code>, <code>"));
    }
    out.push_str("</table></div>");
}

/// A type in words, with links to shapes.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        let name = escape(name);
        return format!("<a href='#{name}'>{name}</a>");
    }
    if let Some(either) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        return either.iter().map(type_of).collect::<Vec<_>>().join(" or ");
    }
    let mut text = match &schema["type"] {
        Value::Array(types) => types.iter().map(escaped).collect::<Vec<_>>().join(" or "),
        Value::String(t) if t == "array" => format!("array of {}", type_of(&schema["items"])),
        Value::String(t) => escape(t),
        _ => "anything".into(),
    };
    if let (Some(low), Some(high)) = (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        let _ = write!(text, ", {low} to {high}");
    }
    text
}

fn escaped(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_on_the_page_and_nothing_is_loaded_from_elsewhere() {
        let doc: Value = serde_json::from_str(document()).unwrap();
        assert_eq!(doc["openapi"], "3.1.0");
        for path in doc["paths"].as_object().unwrap().keys() {
            assert!(PAGE.contains(&escape(path)), "{path}");
        }
        for outside in ["http://", "https://", "<script", "<link", "@import"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        assert_eq!(escape("<a b='c'>&"), "&lt;a b=&#39;c&#39;&gt;&amp;");
    }
}
