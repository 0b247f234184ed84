//! Our programs at rest: memory and size.

use std::fs;

use tests::{
    fleet::{Fleet, Pace},
    oracle::judge_if_watched,
    process::binary,
    telemetry::REGIONS,
};

use crate::figures::{line, memory, rest};

pub(crate) async fn run() {
    println!("Programs at rest, resident memory");
    let mut fleet = Fleet::start(Pace::AT_REST).await.expect("the servers take the telemetry");
    let mut hub = fleet.start_agent("agent-hub", &fleet.hub_document(), &[]);
    let document = fleet.partition_document(&REGIONS[0], &fleet.partitions[0]);
    let mut partition = fleet.start_agent("agent-partition", &document, &[]);
    let mut operator = fleet.start_operator();
    rest().await;
    let server = fleet.hub.process().pid();
    for (name, pid) in [
        ("agent-partition", partition.pid()),
        ("agent-hub", hub.pid()),
        ("operator standalone (itself)", operator.pid()),
        ("kusto-local (hub of the demo)", server),
    ] {
        let pid = pid.expect("it runs");
        line(name, &memory(pid));
    }
    for process in [&mut operator, &mut hub, &mut partition] {
        process.stop().await;
    }
    judge_if_watched(fleet.stop().await.path());
    println!("Size of the programs");
    for name in ["agent-partition", "agent-hub", "operator", "kusto-local"] {
        let bytes = fs::metadata(binary(name)).map_or(0, |file| file.len());
        line(name, &format!("{:.1} MB", bytes as f64 / 1e6));
    }
}
