//! Which rows a call means, as an expression with parameters.
//!
//! Values go to the server apart from the expression. milvus-lite knows no parameters: for it alone they are written out, escaped as
//! its grammar says. Ids are never among them: rows are named by hashes ([`super::names::key`]).

use std::collections::HashMap;

use milvus::v2::FilterTemplateValue;

use super::rows::{KEY, LABELS, TENANT};

/// An expression and its parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Filter {
    parts: Vec<(String, &'static str, Value)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Texts(Vec<String>),
}

impl Filter {
    /// All rows.
    pub(super) fn all() -> Self {
        Self::default()
    }

    /// The rows of a tenant.
    pub(super) fn tenant(tenant: &str) -> Self {
        Self::all().and(format!("{TENANT} == {{tenant}}"), "tenant", Value::Text(tenant.to_owned()))
    }

    /// Only rows with this label.
    pub(super) fn label(self, label: String) -> Self {
        self.and(format!("array_contains({LABELS}, {{label}})"), "label", Value::Text(label))
    }

    /// None of these rows.
    pub(super) fn without(self, keys: Vec<String>) -> Self {
        if keys.is_empty() { self } else { self.and(format!("{KEY} not in {{without}}"), "without", Value::Texts(keys)) }
    }

    /// These rows.
    pub(super) fn keys(keys: Vec<String>) -> Self {
        Self::all().and(format!("{KEY} in {{keys}}"), "keys", Value::Texts(keys))
    }

    /// The rows whose keys lie from `from` to before `to`.
    pub(super) fn between(from: String, to: String) -> Self {
        let from = Self::all().and(format!("{KEY} >= {{from}}"), "from", Value::Text(from));
        from.and(format!("{KEY} < {{to}}"), "to", Value::Text(to))
    }

    fn and(mut self, part: String, name: &'static str, value: Value) -> Self {
        self.parts.push((part, name, value));
        self
    }

    /// As the server takes it.
    pub(super) fn render(self, templates: bool) -> (String, HashMap<String, FilterTemplateValue>) {
        let mut values = HashMap::new();
        let mut parts = Vec::new();
        for (part, name, value) in self.parts {
            if templates {
                parts.push(part);
                values.insert(
                    name.to_owned(),
                    match value {
                        Value::Text(text) => FilterTemplateValue::String(text),
                        Value::Texts(texts) => FilterTemplateValue::StringArray(texts),
                    },
                );
            } else {
                let text = match value {
                    Value::Text(text) => literal(&text),
                    Value::Texts(texts) => format!("[{}]", texts.iter().map(|t| literal(t)).collect::<Vec<_>>().join(",")),
                };
                parts.push(part.replacen(&format!("{{{name}}}"), &text, 1));
            }
        }
        (parts.join(" and "), values)
    }
}

/// A string in the grammar of expressions: quoted, with the characters escaped that could end it.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Filter {
        Filter::tenant("a\" or \"\" == \"").label("\\{without}\n".into()).without(vec!["00".into(), "ff".into()])
    }

    #[test]
    fn values_go_apart() {
        let (expression, values) = filter().render(true);
        assert_eq!(expression, "tenant == {tenant} and array_contains(labels, {label}) and key not in {without}");
        assert_eq!(values.len(), 3);
        assert_eq!(values["tenant"], FilterTemplateValue::String("a\" or \"\" == \"".into()));
        assert_eq!(values["without"], FilterTemplateValue::StringArray(vec!["00".into(), "ff".into()]));
    }

    #[test]
    fn or_cannot_end_their_quotes() {
        let (expression, values) = filter().render(false);
        assert!(values.is_empty());
        assert_eq!(
            expression,
            r#"tenant == "a\" or \"\" == \"" and array_contains(labels, "\\{without}\n") and key not in ["00","ff"]"#
        );
    }
}
