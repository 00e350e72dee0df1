//! Becomes the engine: puts the parts together and serves until it is told to end.

use nexus_config::Config;

/// Serves until the process is asked to end.
pub async fn run(_config: Config) -> anyhow::Result<()> {
    anyhow::bail!("serving is not part of this binary yet")
}
