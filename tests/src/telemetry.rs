//! Sample telemetry of three regions, the same for the demo, the stories and the benchmarks. I/O: commands to a local Kusto.

use crate::kusto::{AskError, KustoServer};

/// A region with its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Name of the partition and value of the column Region.
    pub name: &'static str,
    /// Partitioning attribute.
    pub geo: &'static str,
    /// Partitioning attribute.
    pub location: &'static str,
    /// Rows of Requests: different everywhere, so that swapped partitions show.
    pub requests: usize,
}

/// The demo's partitions.
pub const REGIONS: [Region; 3] = [
    Region { name: "europe", geo: "EU", location: "westeurope", requests: 240 },
    Region { name: "america", geo: "US", location: "eastus2", requests: 120 },
    Region { name: "asia", geo: "APAC", location: "southeastasia", requests: 60 },
];

/// Every fourth request is an Error, every second one Info, the rest are Warning.
const LEVELS: [&str; 4] = ["Info", "Warning", "Info", "Error"];

impl Region {
    /// How many requests of this region have a level.
    pub fn requests_of(&self, level: &str) -> usize {
        (0..self.requests).filter(|number| LEVELS[number % LEVELS.len()] == level).count()
    }

    /// Creates `Logs.Requests`, `Logs.ApplicationLogs` and `Metrics.PrometheusData` and fills them: requests of the last half hour, the others at fixed times.
    ///
    /// # Errors
    /// What the server refused.
    pub async fn load(&self, server: &KustoServer) -> Result<(), AskError> {
        let count = self.requests - 1;
        let region = self.name;
        for (database, table, columns, rows) in [
            (
                "Logs",
                "Requests",
                "Timestamp:datetime, Region:string, Level:string, Service:string, DurationMs:long, Message:string",
                format!(
                    "range n from 0 to {count} step 1 | project Timestamp = now() - 7s * n, Region = '{region}', \
                     Level = case(n % 4 == 3, 'Error', n % 4 == 1, 'Warning', 'Info'), Service = strcat('svc-', n % 3), \
                     DurationMs = 5 + n % 97, Message = strcat('request ', n)"
                ),
            ),
            (
                "Logs",
                "ApplicationLogs",
                "TimeGenerated:datetime, Level:string, Message:string",
                "range n from 0 to 9 step 1 | project TimeGenerated = datetime(2025-05-03 12:00:00) - 1m * n, \
                 Level = iff(n % 5 == 0, 'Error', 'Info'), Message = strcat('log ', n)"
                    .to_owned(),
            ),
            (
                "Metrics",
                "PrometheusData",
                "TimeGenerated:datetime, MetricName:string, Value:real",
                "range n from 0 to 9 step 1 | project TimeGenerated = datetime(2025-05-03 12:00:00) - 1m * n, \
                 MetricName = 'cpu', Value = toreal(n)"
                    .to_owned(),
            ),
        ] {
            server.command(database, &format!(".create table {table} ({columns})")).await?;
            server.command(database, &format!(".set-or-append {table} <| {rows}")).await?;
        }
        Ok(())
    }
}
