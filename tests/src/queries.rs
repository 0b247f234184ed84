//! The queries that the demo shows and a story checks: a federated function, an entity group, and a join of two groups. Pure.

use crate::{fleet::Fleet, telemetry::REGIONS};

/// A query with the rows that it must give.
#[derive(Debug)]
pub struct Query {
    /// What it shows.
    pub title: &'static str,
    /// The hub database it runs in.
    pub database: &'static str,
    /// The query.
    pub text: &'static str,
    /// Its rows, cells as text.
    pub expected: Vec<Vec<String>>,
}

/// What a user came for, over a fleet with the sample telemetry.
pub fn queries(fleet: &Fleet) -> Vec<Query> {
    let mut regions: Vec<_> = REGIONS.iter().zip(&fleet.partitions).collect();
    regions.sort_by_key(|(region, _)| region.name);
    let by_level = regions.iter().flat_map(|(region, _)| {
        ["Error", "Warning"]
            .map(|level| vec![region.name.to_owned(), level.to_owned(), region.requests_of(level).to_string()])
    });
    let by_partition = regions
        .iter()
        .map(|(region, server)| vec![region.name.to_owned(), region.requests.to_string(), server.url.clone()]);
    vec![
        Query {
            title: "A federated function: one table over all partitions",
            database: "Logs",
            text: "federated_Requests()\n| where Timestamp > ago(1h) and Level != 'Info'\n| summarize count() by Region, Level\n\
                   | order by Region asc, Level asc",
            expected: by_level.collect(),
        },
        Query {
            title: "An entity group: a query of one's own that runs in each partition",
            database: "Logs",
            text: "macro-expand Logs_Partitions as X (\n    X.Requests\n    | where Timestamp > ago(1h)\n    | summarize Requests = count() by Region\n    \
                   | extend Partition = X.$current_cluster_endpoint\n)\n| order by Region asc",
            expected: by_partition.collect(),
        },
        Query {
            title: "Metrics and logs of all partitions, joined",
            database: "Logs",
            text: "let MetricsData = materialize(\n    macro-expand Metrics_Partitions as X (\n        X.PrometheusData | project TimeGenerated, MetricName, Value, \
                   Partition = X.$current_cluster_endpoint\n    )\n);\nlet LogsData = materialize(\n    macro-expand Logs_Partitions as Y (\n        \
                   Y.ApplicationLogs | project TimeGenerated, Level, Message, Partition = Y.$current_cluster_endpoint\n    )\n);\n\
                   MetricsData\n| join kind=inner LogsData on TimeGenerated, Partition\n| summarize Partitions = dcount(Partition), Rows = count(), Highest = max(Value) by Level\n\
                   | order by Level asc",
            expected: vec![
                ["Error", "3", "6", "5.0"].map(str::to_owned).to_vec(),
                ["Info", "3", "24", "9.0"].map(str::to_owned).to_vec(),
            ],
        },
    ]
}
