//! `nearcast models distill`: a static model out of a BERT model and texts, in a directory of its own.
//!
//! Writes nothing before the whole model is made, and never over another model.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use nearcast_embed::{
    TextModel,
    model::Bert,
    registry::{KNOWN, TABLE},
    statics::{BUILT_IN, DistillOptions, DistillReport, Pairs, StaticModel, Step, distill},
};
use serde_json::json;

use crate::{cli::DistillArgs, config::ModelConfig, models, progress::Progress};

/// Prints what was made; progress goes to standard error.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub fn run(args: &DistillArgs, config: &ModelConfig) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    ensure!(
        args.name.chars().all(plain) && args.name.starts_with(|c: char| c.is_ascii_alphanumeric()),
        "--name {:?}: letters, digits, dots and dashes only, a letter or digit first",
        args.name
    );
    ensure!(
        (args.name != BUILT_IN || args.out.is_some()) && KNOWN.iter().all(|m| m.name != args.name),
        "--name {}: there is a model of that name already; choose another",
        args.name
    );
    for (flag, value) in [("--ridge", args.ridge), ("--smoothing", args.smoothing)] {
        ensure!(value.is_finite() && value > 0.0, "{flag} {value}: must be above 0");
    }
    let store = models::store(config);
    let dir = args.out.clone().unwrap_or_else(|| store.table_dir(&args.name));
    ensure!(!dir.join(TABLE).exists(), "{} holds a model already; choose another --name or --out", dir.display());
    let pairs = args.sts.as_deref().map(Pairs::read).transpose()?;
    let texts = read_all(&args.texts)?;
    ensure!(!texts.is_empty(), "no text in {}", list(&args.texts));
    if !Path::new(&args.from).is_dir() {
        ensure!(store.table(&args.from)?.is_none(), "--from {}: a static model has nothing to learn from", args.from);
        models::ensure(&store, &args.from)?;
    }
    let local = store.open(&args.from)?;
    let options = DistillOptions {
        name: args.name.clone(),
        dimension: usize::from(args.dimension),
        smoothing: args.smoothing,
        ridge: args.ridge,
        rounds: usize::from(args.rounds),
        ..DistillOptions::default()
    };
    let mut shown = Shown::default();
    let (bytes, report) = distill(&local, &texts, &options, &mut |step| shown.at(step))?;
    drop(shown);
    let model = Arc::new(StaticModel::from_bytes(&bytes)?);
    let revision = model.info().revision.clone();
    let spearman = pairs.map(|pairs| compare(&pairs, model, Arc::new(Bert::load(&local)?), options.threads)).transpose()?;
    write(&dir, &bytes, &about(args, &report, &revision, spearman))?;
    if args.json {
        let mut json = serde_json::to_value(report)?;
        json["name"] = json!(args.name);
        json["revision"] = json!(revision);
        json["dir"] = json!(dir);
        json["spearman"] = json!(spearman.map(|(table, whole)| json!({"table": table, "model": whole})));
        println!("{json}");
        return Ok(());
    }
    println!(
        "{}: {} texts, {} tokens, {} of {} tokens seen; it leaves {:.1} % of the variance of {}'s vectors unexplained",
        args.name,
        report.texts,
        report.tokens,
        report.seen,
        report.vocabulary,
        report.unexplained * 100.0,
        local.info.name
    );
    if let Some((table, whole)) = spearman {
        println!("Spearman: {table:.4}, {} itself {whole:.4}", local.info.name);
    }
    println!("{} ({:.1} MB), revision {revision}", dir.join(TABLE).display(), bytes.len() as f64 / 1e6);
    Ok(())
}

/// The table's and the model's.
fn compare(pairs: &Pairs, table: Arc<StaticModel>, whole: Arc<Bert>, threads: usize) -> anyhow::Result<(f64, f64)> {
    let (table, whole): (Arc<dyn TextModel>, Arc<dyn TextModel>) = (table, whole);
    Ok((pairs.spearman(&table, threads)?, pairs.spearman(&whole, threads)?))
}

/// One bar a step.
#[derive(Default)]
struct Shown {
    step: Option<(&'static str, Progress)>,
}

impl Shown {
    fn at(&mut self, step: Step) {
        if self.step.as_ref().is_none_or(|(what, _)| *what != step.what) {
            self.end();
            if step.total == 0 {
                eprintln!("{}", step.what);
            }
            self.step = Some((step.what, Progress::new(step.what, step.total, false)));
        }
        if let Some((_, progress)) = &self.step {
            progress.at(step.done, "");
        }
    }

    fn end(&mut self) {
        if let Some((_, progress)) = self.step.take() {
            progress.done("");
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.end();
    }
}

fn write(dir: &Path, bytes: &[u8], about: &str) -> anyhow::Result<()> {
    let at = |path: &Path| path.display().to_string();
    fs::create_dir_all(dir).with_context(|| at(dir))?;
    let (model, part) = (dir.join(TABLE), dir.join(format!("{TABLE}.part")));
    fs::write(&part, bytes).with_context(|| at(&part))?;
    fs::write(dir.join("README.md"), about).with_context(|| at(dir))?;
    fs::rename(&part, &model).with_context(|| at(&model))
}

/// How it was made, for whoever finds the directory.
fn about(args: &DistillArgs, report: &DistillReport, revision: &str, spearman: Option<(f64, f64)>) -> String {
    let scores = spearman.map_or(String::new(), |(table, whole)| {
        format!("\nSpearman on the pairs given: {table:.4}; the model it was made from: {whole:.4}.\n")
    });
    format!(
        "# {}\n\nA static model of Nearcast, revision {revision}, made by\n\n    nearcast models distill --name {} --from {} --texts {} \
         --dimension {} --ridge {} --smoothing {} --rounds {}\n\nfrom {} texts ({} tokens; {} of the {} in the vocabulary occur). Of \
         the texts it keeps no words, only numbers fitted to them.\n{scores}",
        args.name,
        args.name,
        args.from,
        list(&args.texts),
        args.dimension,
        args.ridge,
        args.smoothing,
        args.rounds,
        report.texts,
        report.tokens,
        report.seen,
        report.vocabulary,
    )
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" --texts ")
}

/// The texts of files and directories, in the order given; the files of a directory by name.
fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Arc<str>>> {
    let mut texts = Vec::new();
    for path in paths {
        let context = || path.display().to_string();
        if path.is_dir() {
            let files = fs::read_dir(path).with_context(context)?.collect::<Result<Vec<_>, _>>().with_context(context)?;
            let mut files = files.into_iter().map(|f| f.path()).filter(|f| f.is_file()).collect::<Vec<_>>();
            files.sort();
            for file in files {
                read(&file, &mut texts).with_context(|| file.display().to_string())?;
            }
        } else {
            read(path, &mut texts).with_context(context)?;
        }
    }
    Ok(texts)
}

fn read(path: &Path, texts: &mut Vec<Arc<str>>) -> anyhow::Result<()> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let file = File::open(path)?;
    let (inner, reader): (&str, Box<dyn Read>) = match name.strip_suffix(".gz") {
        Some(inner) => (inner, Box::new(flate2::read::MultiGzDecoder::new(file))),
        None => (&name, Box::new(file)),
    };
    let events = inner.ends_with(".jsonl");
    for (n, line) in BufReader::new(reader).split(b'\n').enumerate() {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let text = if events { text_of(&line).with_context(|| format!("line {}", n + 1))? } else { Some(line.into_owned()) };
        if let Some(text) = text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()) {
            texts.push(text.into());
        }
    }
    Ok(())
}

/// The text of an event, where it has one.
fn text_of(line: &str) -> anyhow::Result<Option<String>> {
    if line.trim().is_empty() {
        return Ok(None);
    }
    let event: serde_json::Value = serde_json::from_str(line)?;
    if !event.is_object() {
        bail!("not a JSON object");
    }
    Ok(["text", "message"].iter().find_map(|key| event[*key].as_str().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn texts_of_lines_events_and_directories() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b.txt"), "one\n\n two \r\n").unwrap();
        let events =
            "{\"type\":\"item\",\"text\":\"three\"}\n{\"type\":\"engagement\"}\n\n{\"user_id\":\"u\",\"message\":\"four\"}\n";
        let mut zip =
            flate2::write::GzEncoder::new(File::create(dir.path().join("a.jsonl.gz")).unwrap(), flate2::Compression::fast());
        zip.write_all(events.as_bytes()).unwrap();
        zip.finish().unwrap();
        let texts = read_all(&[dir.path().to_owned(), dir.path().join("b.txt")]).unwrap();
        assert_eq!(texts.iter().map(|t| &**t).collect::<Vec<_>>(), ["three", "four", "one", "two", "one", "two"]);
        fs::write(dir.path().join("c.jsonl"), "{\n").unwrap();
        let e = format!("{:#}", read_all(&[dir.path().join("c.jsonl")]).unwrap_err());
        assert!(e.contains("c.jsonl") && e.contains("line 1"), "{e}");
    }
}
