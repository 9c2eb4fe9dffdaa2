//! `nearcast config check|print`.

use toml::{Table, Value};

use crate::{cli::ConfigAction, config::Config};

/// Keys whose values are never printed.
const SECRETS: [&str; 4] = ["api_keys", "password", "secret", "api_key"];

/// The configuration was loaded and checked before this is called.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub fn run(action: ConfigAction, config: &Config) -> anyhow::Result<()> {
    if matches!(action, ConfigAction::Print) {
        let mut table = Table::try_from(config)?;
        hide(&mut table);
        print!("{}", toml::to_string_pretty(&table)?);
    }
    Ok(())
}

fn hide(table: &mut Table) {
    for (key, value) in table {
        match value {
            Value::Table(inner) if SECRETS.contains(&key.as_str()) => {
                inner.iter_mut().for_each(|(_, v)| *v = Value::String("(hidden)".into()));
            }
            Value::Table(inner) => hide(inner),
            other if SECRETS.contains(&key.as_str()) => *other = Value::String("(hidden)".into()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden() {
        let mut table: Table = toml::from_str("a = 1\n[serve.api_keys]\nk = \"hunter2\"\n[x]\npassword = \"hunter2\"").unwrap();
        hide(&mut table);
        let text = toml::to_string(&table).unwrap();
        assert!(!text.contains("hunter2") && text.contains("a = 1"), "{text}");
    }
}
