//! `nearcast models list|pull|verify|info`.

use nearcast_embed::registry::{ModelState, ModelStatus};

use crate::{
    cli::ModelsAction,
    config::ModelConfig,
    models::{pull, store},
};

/// Prints results on standard output, progress on standard error.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub fn run(action: ModelsAction, config: &ModelConfig) -> anyhow::Result<()> {
    let store = store(config);
    match action {
        ModelsAction::List(args) if args.json => println!("{}", serde_json::to_string(&store.list())?),
        ModelsAction::List(_) => store.list().iter().for_each(|m| println!("{}", line(m))),
        ModelsAction::Pull { name } => {
            pull(&store, &name)?;
            println!("{}", line(&store.describe(&name)?));
        }
        ModelsAction::Verify { name } => {
            let model = store.verify(&name)?;
            println!("{} is whole, revision {}", model.info.name, model.info.revision);
        }
        ModelsAction::Info { name } => println!("{}", serde_json::to_string_pretty(&store.describe(&name)?)?),
    }
    Ok(())
}

fn line(m: &ModelStatus) -> String {
    let state = match &m.state {
        ModelState::Ready => format!("ready, {:.1} MB", m.bytes as f64 / 1e6),
        ModelState::Absent => format!("not here; nearcast models pull {}", m.name),
        ModelState::Torn(what) => format!("torn: {what}"),
    };
    format!("{:<24} {:>4}-d, {:>3} tokens, {state}", m.name, m.dimension, m.max_tokens)
}
