//! `agent-hub`: see the library.

use std::process::ExitCode;

use clap::Parser;
use shared::{
    document,
    runtime::{self, CommonArgs},
};

/// Keeps a hub's federated functions and entity groups true to the heartbeats of its partitions
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,

    /// Print the ordered changes with their reasons and commands, and make none
    #[arg(long, conflicts_with = "once")]
    plan: bool,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

fn main() -> ExitCode {
    runtime::main("agent-hub", document::hub_config, async |args: Args, config, world| {
        if args.plan {
            Box::pin(agent_hub::preview(config, world)).await
        } else {
            Box::pin(agent_hub::run(config, world)).await
        }
    })
}
