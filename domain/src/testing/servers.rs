//! The real servers that a test may talk to, by the same variables that the program reads.
//!
//! A server that is not there skips a test on a laptop and fails it in CI: no test is ever left out there unseen.

/// The value of a variable such as `NEARCAST__MONGODB__URI`; `None`, with a line that says so, where it is not set.
///
/// # Panics
/// With `CI=true` in the environment and the variable not set.
pub fn address(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => Some(value),
        _ => {
            let remedy = "run `infra/local/up`, then `eval \"$(infra/local/env)\"`";
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{variable} is not set: {remedy}");
            eprintln!("skipped: {variable} is not set; {remedy}");
            None
        }
    }
}

/// A name that no other run has, for databases, topics and prefixes of a test's own.
pub fn unique(prefix: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("{prefix}_{:x}_{:x}", std::process::id(), now & 0xff_ffff_ffff)
}

/// Settings that give a run names of its own in every server, as variables and their values; all begin with `name`.
pub fn own_names(name: &str) -> Vec<(String, String)> {
    let own = [
        ("KAFKA__TOPIC", format!("{name}.events")),
        ("KAFKA__DEAD_LETTER_TOPIC", format!("{name}.dead")),
        ("KAFKA__GROUP", name.to_owned()),
        ("MONGODB__DATABASE", name.to_owned()),
        ("MILVUS__PREFIX", format!("{name}_")),
        ("NEO4J__PREFIX", format!("{name}_")),
        ("POSTGRES__SCHEMA", name.to_owned()),
        ("REDIS__PREFIX", format!("{name}:")),
    ];
    own.map(|(key, value)| (format!("NEARCAST__{key}"), value)).into()
}
