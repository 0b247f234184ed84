//! What the stories share.

use std::time::Duration;

use tests::{
    fleet::{Fleet, Pace},
    kusto::Table,
    process::Process,
};

/// How long a change may take to show at the hub at [`Pace::FAST`]: a beat, a pass, and a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Counts the regions that the hub's function answers for.
pub(crate) const REGIONS_SEEN: &str = "federated_Requests() | distinct Region | order by Region asc";

/// A fleet whose hub answers for all three regions.
pub(crate) async fn federated() -> (Fleet, Process) {
    let fleet = Fleet::start(Pace::FAST).await.expect("the servers take the telemetry");
    let operator = fleet.start_operator();
    until_regions(&fleet, &["america", "asia", "europe"]).await;
    (fleet, operator)
}

/// Waits until the hub answers for exactly these regions.
pub(crate) async fn until_regions(fleet: &Fleet, regions: &[&str]) -> Table {
    fleet.hub_until("Logs", REGIONS_SEEN, SOON, |table| table.column("Region") == regions).await
}

/// All that is ours on the hub: names of functions and groups with their content.
pub(crate) async fn hub_content(fleet: &Fleet) -> Vec<String> {
    let mut content = Vec::new();
    for database in tests::fleet::HUB_DATABASES {
        let functions = fleet.hub.command(database, ".show functions | project Name, Body | order by Name asc").await;
        let groups = fleet.hub.command(database, ".show entity_groups | project Name, Entities | order by Name asc").await;
        for table in [functions, groups] {
            content.extend(table.expect("the hub answers").rows.iter().map(|row| format!("{database}: {row:?}")));
        }
    }
    content
}
