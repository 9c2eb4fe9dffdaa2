//! `nearcast models list|pull|verify|info|distill|use`.

use std::path::Path;

use anyhow::{bail, ensure};
use nearcast_embed::registry::{ModelState, ModelStatus};

use super::distill;
use crate::{
    cli::ModelsAction,
    config::{Config, ModelConfig},
    data_dir::DataDir,
    models::{self, AUTO, pull, store},
    wiring,
};

/// Prints results on standard output, progress on standard error.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub fn run(action: ModelsAction, config: &Config) -> anyhow::Result<()> {
    let model = &config.model;
    let store = store(model);
    match action {
        ModelsAction::List(args) if args.json => println!("{}", serde_json::to_string(&store.list())?),
        ModelsAction::List(_) => store.list().iter().for_each(|m| println!("{}", line(m))),
        ModelsAction::Pull { name } => {
            pull(&store, &name)?;
            println!("{}", line(&store.describe(&name)?));
        }
        ModelsAction::Verify { name } => {
            let info = match store.table(&name)? {
                // Its hash was checked as it was read.
                Some(table) => nearcast_embed::TextModel::info(&*table).clone(),
                None => store.verify(&name)?.info,
            };
            println!("{} is whole, revision {}", info.name, info.revision);
        }
        ModelsAction::Info { name } => println!("{}", serde_json::to_string_pretty(&store.describe(&name)?)?),
        ModelsAction::Distill(args) => distill::run(&args, model)?,
        ModelsAction::Use { name } => println!("{}", take(&name, config)?),
    }
    Ok(())
}

fn line(m: &ModelStatus) -> String {
    let state = match &m.state {
        ModelState::Ready if m.dir == Path::new("(built in)") => format!("built in, {:.1} MB", m.bytes as f64 / 1e6),
        ModelState::Ready => format!("ready, {:.1} MB", m.bytes as f64 / 1e6),
        ModelState::Absent => format!("not here; nearcast models pull {}", m.name),
        ModelState::Torn(what) => format!("torn: {what}"),
    };
    format!("{:<24} {:<6} {:>4}-d, {:>3} tokens, {state}", m.name, m.kind, m.dimension, m.max_tokens)
}

/// Writes into the data directory which model it is to begin with; every later command finds it there.
fn take(name: &str, config: &Config) -> anyhow::Result<String> {
    free_to_choose(&config.model, name)?;
    let store = store(&config.model);
    ensure!(!Path::new(name).is_dir(), "{name} is a directory: set model.dir to it in the configuration");
    match store.describe(name)?.state {
        ModelState::Ready => {}
        ModelState::Absent => bail!("{name} is not on this machine; fetch it with `nearcast models pull {name}`"),
        ModelState::Torn(what) => bail!(what),
    }
    let label = models::label(&models::info(&config.model, &store, name)?);
    let mut dir = DataDir::open(&config.data_dir)?;
    let at = config.data_dir.display();
    if let Some(before) = dir.about().model.clone() {
        if before == label {
            return Ok(format!("{at} uses {label} already"));
        }
        ensure!(
            wiring::holds_nothing(dir.path())?,
            "{at} holds data that was embedded with {before}; embed it anew with `nearcast reembed --model {name}`, or name another \
             directory with --data-dir"
        );
    }
    dir.update(|about| about.model = Some(label.clone()))?;
    Ok(format!("{at} uses {label} from now on"))
}

/// The configuration goes before the data directory: where it names another model, that has to be changed first.
fn free_to_choose(config: &ModelConfig, name: &str) -> anyhow::Result<()> {
    if let Some(dir) = &config.dir {
        bail!("the configuration sets model.dir = {}, which goes first; leave it out there", dir.display());
    }
    if config.api.is_some() {
        bail!("the configuration sets model.api, which goes first; leave it out there");
    }
    ensure!(
        config.name == AUTO || config.name == name,
        "the configuration sets model.name = {:?}, which goes first; set it to {name:?} there, or leave it out",
        config.name
    );
    Ok(())
}
