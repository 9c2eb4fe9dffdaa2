//! What can be set about training.

use serde::{Deserialize, Serialize};

/// The section `[train]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Whether `nearcast run` trains by itself. `nearcast train` does so either way.
    pub enabled: bool,
    /// The fewest choices there must be before anything is learned.
    pub least: usize,
    /// By which share the choices must have grown since the artefact in service was made, before it is made anew.
    pub growth: f64,
    /// For so many seconds no new event may have come, before training begins...
    pub quiet_s: u64,
    /// ... unless it waited for so many seconds.
    pub longest_wait_s: u64,
    /// The share of one core that training may take over time, above 0 and at most 1.
    pub share: f64,
    /// Items between which weights are learned: the most chosen ones, where there are more. The matrix of 20,000 takes 3.2 GB.
    pub items: usize,
    /// The same while figures are compared on earlier times, which is done five times.
    pub items_compared: usize,
    /// Weights that an item keeps, the strongest.
    pub keep: usize,
    /// How strongly weights between items are held to zero; one person counts 1.
    pub ridge: f32,
    /// What likeness of texts counts beside people: the weight of the Gram matrix of centred text vectors.
    pub text: f32,
    /// The most people that a comparison on earlier times takes.
    pub people: usize,
    /// Versions that are kept beside the one in service.
    pub versions: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            least: 500,
            growth: 0.05,
            quiet_s: 5,
            longest_wait_s: 600,
            share: 0.5,
            items: 20_000,
            items_compared: 6_000,
            keep: 200,
            ridge: 150.0,
            text: 20.0,
            people: 1_500,
            versions: 5,
        }
    }
}

impl TrainConfig {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, low: f64, high: f64| match (low..=high).contains(&value) {
            true => Ok(()),
            false => Err(format!("train.{name} must lie between {low} and {high}")),
        };
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err("train.share must lie above 0 and at most at 1".into());
        }
        within("least", self.least as f64, 10.0, 1e12)?;
        within("growth", self.growth, 0.0, 100.0)?;
        within("items", self.items as f64, 10.0, 60_000.0)?;
        within("items_compared", self.items_compared as f64, 10.0, 60_000.0)?;
        within("keep", self.keep as f64, 1.0, 1_000.0)?;
        within("ridge", f64::from(self.ridge), 1.0, 1e6)?;
        within("text", f64::from(self.text), 0.0, 1e4)?;
        within("people", self.people as f64, 20.0, 1e6)?;
        within("versions", self.versions as f64, 1.0, 1_000.0)
    }
}
