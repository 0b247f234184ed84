//! `agent-partition`: see the library.

use std::process::ExitCode;

use clap::Parser;
use shared::{
    document,
    runtime::{self, CommonArgs},
};

/// Announces a cluster, with its databases and tables, to its hubs
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

fn main() -> ExitCode {
    runtime::main("agent-partition", document::partition_config, |_: Args, config, world| {
        agent_partition::run(config, world)
    })
}
