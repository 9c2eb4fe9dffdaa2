//! What was measured, as JSON and as one HTML page that needs nothing from elsewhere.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

/// A scenario's result.
pub struct Section {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub what: &'static str,
    /// Named figures, in words, with what is asked of them.
    pub figures: Vec<Figure>,
    /// Named loads, with their histograms.
    pub loads: Vec<(String, Value)>,
}

/// One figure.
pub struct Figure {
    /// What it is.
    pub what: String,
    /// As people read it.
    pub text: String,
    /// What is asked for, and whether it holds.
    pub bar: Option<(String, bool)>,
}

impl Section {
    /// Nothing yet.
    pub fn new(name: &'static str, what: &'static str) -> Self {
        Self { name, what, figures: Vec::new(), loads: Vec::new() }
    }

    /// A figure that nothing is asked of.
    pub fn say(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.figures.push(Figure { what: what.into(), text: text.into(), bar: None });
    }

    /// A figure that must hold.
    pub fn judge(&mut self, what: impl Into<String>, text: impl Into<String>, bar: impl Into<String>, holds: bool) {
        self.figures.push(Figure { what: what.into(), text: text.into(), bar: Some((bar.into(), holds)) });
    }

    /// A load and its histograms.
    pub fn load(&mut self, name: impl Into<String>, outcome: &super::driver::Outcome) {
        self.loads.push((name.into(), outcome.json()));
    }
}

/// Prints a section as it is done.
#[allow(clippy::print_stdout, reason = "the result of the benchmark")]
pub fn print(section: &Section) {
    println!("\n{}: {}", section.name, section.what);
    for f in &section.figures {
        let bar = match &f.bar {
            None => String::new(),
            Some((bar, holds)) => format!("  [{bar}: {}]", if *holds { "holds" } else { "MISSED" }),
        };
        println!("  {:<52} {}{bar}", f.what, f.text);
    }
}

/// Writes `report.json` and `report.html`.
pub fn write(dir: &Path, machine: &Value, sections: &[Section]) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let all: Vec<Value> = sections
        .iter()
        .map(|s| {
            let figures: Vec<Value> = s
                .figures
                .iter()
                .map(|f| {
                    let bar = f.bar.as_ref();
                    json!({"what":f.what,"text":f.text,"bar":bar.map(|b| &b.0),"holds":bar.map(|b| b.1)})
                })
                .collect();
            let loads: Vec<Value> = s.loads.iter().map(|(n, l)| json!({"name":n,"outcome":l})).collect();
            json!({"scenario":s.name,"what":s.what,"figures":figures,"loads":loads})
        })
        .collect();
    let whole = json!({"machine":machine,"scenarios":all});
    std::fs::write(dir.join("report.json"), serde_json::to_vec_pretty(&whole)?)?;
    std::fs::write(dir.join("report.html"), html(machine, sections))?;
    Ok(())
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
:root{color-scheme:light dark}h2{margin-top:2.5rem;border-bottom:1px solid #8884}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.2rem .8rem .2rem 0;border-top:1px solid #8883;vertical-align:top}.no{color:#c33;font-weight:600}
.yes{color:#283}figure{margin:1rem 0}figcaption{font-size:14px;opacity:.8}svg{width:100%;height:7rem}rect{fill:#47a}
text{font:10px system-ui;fill:currentColor}";

fn html(machine: &Value, sections: &[Section]) -> String {
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>\
         <title>Nearcast under load</title><style>{STYLE}</style><h1>Nearcast under load</h1><p>{}</p>",
        escape(&machine.to_string())
    );
    for s in sections {
        let _ = write!(out, "<h2>{}</h2><p>{}</p><table>", escape(s.name), escape(s.what));
        for f in &s.figures {
            let bar = f.bar.as_ref().map_or(String::new(), |(bar, holds)| {
                let (class, word) = if *holds { ("yes", "holds") } else { ("no", "missed") };
                format!("{} <span class={class}>{word}</span>", escape(bar))
            });
            let _ = write!(out, "<tr><td>{}<td>{}<td>{bar}", escape(&f.what), escape(&f.text));
        }
        out.push_str("</table>");
        for (name, load) in &s.loads {
            draw(&mut out, name, load);
        }
    }
    out
}

/// A histogram on a logarithmic axis.
fn draw(out: &mut String, name: &str, load: &Value) {
    let good = &load["good"];
    let bars: Vec<(f64, f64)> = good["bars"]
        .as_array()
        .map(|b| b.iter().filter_map(|p| Some((p[0].as_f64()?, p[1].as_f64()?))).collect())
        .unwrap_or_default();
    let n = |v: &Value| v.as_f64().map_or("-".to_owned(), |x| format!("{x:.2}"));
    let _ = write!(
        out,
        "<figure><figcaption>{}: {} answers/s, p50 {} ms, p90 {}, p99 {}, p99.9 {}, longest {}; {} answers, {} turned away, {} others, \
         {} broken</figcaption>",
        escape(name),
        n(&load["per_second"]),
        n(&good["p50_ms"]),
        n(&good["p90_ms"]),
        n(&good["p99_ms"]),
        n(&good["p999_ms"]),
        n(&good["max_ms"]),
        good["count"],
        load["turned_away"]["count"],
        load["other"],
        load["broken"],
    );
    // From 10 µs to 100 s: 70 bars of a tenth of a factor of ten.
    let most = bars.iter().map(|b| b.1).fold(1.0, f64::max);
    out.push_str("<svg viewBox='0 0 720 110' preserveAspectRatio=none>");
    for (edge, count) in &bars {
        let x = ((edge.log10() + 2.0) * 100.0).clamp(0.0, 700.0);
        // Rare ones must be seen, too.
        let h = (90.0 * (1.0 + count).ln() / (1.0 + most).ln()).max(1.0);
        let _ = write!(
            out,
            "<rect x={x:.0} y={:.1} width=9 height={h:.1}><title>up to {edge:.3} ms: {count}</title></rect>",
            92.0 - h
        );
    }
    for (n, label) in ["10µs", "100µs", "1ms", "10ms", "100ms", "1s", "10s"].iter().enumerate() {
        let _ = write!(out, "<text x={} y=106>{label}</text>", n * 100 + 10);
    }
    out.push_str("</svg></figure>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
