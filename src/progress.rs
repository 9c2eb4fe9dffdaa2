//! Progress of long work: a bar on a terminal, plain lines elsewhere.

use std::{
    io::IsTerminal,
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a plain line is written.
const EVERY: Duration = Duration::from_secs(5);

/// One piece of long work.
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    plain: Mutex<Plain>,
}

struct Plain {
    last: Instant,
    position: u64,
    total: u64,
}

impl Progress {
    /// Work of so many steps; 0 where the number is not known. Bytes are shown as such.
    pub fn new(name: &str, total: u64, bytes: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::stderr());
            let template = match (total > 0, bytes) {
                (true, true) => "{prefix:>18} {wide_bar:.cyan/dim} {bytes:>10}/{total_bytes} {eta:>4} {msg}",
                (true, false) => "{prefix:>18} {wide_bar:.cyan/dim} {human_pos:>8}/{human_len} {eta:>4} {msg}",
                (false, _) => "{prefix:>18} {spinner} {human_pos} {msg}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar
        });
        let plain = Mutex::new(Plain { last: Instant::now(), position: 0, total });
        Self { bar, name: name.to_owned(), plain }
    }

    /// So far.
    pub fn at(&self, position: u64, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(message.to_owned());
            return;
        }
        let Ok(mut plain) = self.plain.lock() else { return };
        plain.position = position;
        if plain.last.elapsed() >= EVERY {
            plain.last = Instant::now();
            let share = (position * 100).checked_div(plain.total).map(|p| format!(" {p}%")).unwrap_or_default();
            eprintln!("{}:{share} {message}", self.name);
        }
    }

    /// The number of steps, once it is known.
    pub fn set_total(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
        if let Ok(mut plain) = self.plain.lock() {
            plain.total = total;
        }
    }

    /// Done; the bar goes, and a line stays where there is something to say.
    pub fn done(&self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if !message.is_empty() {
            eprintln!("{}: {message}", self.name);
        }
    }
}
