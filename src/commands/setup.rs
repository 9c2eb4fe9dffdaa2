//! `nearcast setup`: makes what is missing in the configured stores.

use tokio_util::sync::CancellationToken;

use crate::{config::Config, data_dir::DataDir, wiring::Stores};

/// Prints a line for each thing that was made; waits for stores that are away.
#[allow(clippy::print_stdout, reason = "the result of the command")]
pub async fn run(config: Config, cancel: CancellationToken) -> anyhow::Result<()> {
    let _dir = config.stores.any_embedded().then(|| DataDir::open(&config.data_dir)).transpose()?;
    let stores = Stores::open(&config, &config.data_dir).await?;
    let made = stores.setup_all(&cancel).await;
    stores.close().await;
    let made = made?;
    if made.is_empty() {
        println!("everything is there already");
    }
    for line in made {
        println!("{line}");
    }
    Ok(())
}
