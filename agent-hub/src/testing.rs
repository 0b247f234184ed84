//! What unit tests share.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use kql::endpoint::ClusterEndpoint;
use serde_json::{Value, json};
use shared::{
    credential::CredentialConfig,
    document::{HubConfig, Validated, parse_documents, validate},
    heartbeat::{Limits, parse_schema},
    kusto::{ClientOptions, KustoClient},
    runtime::PartitionState,
    testing::answering_cluster,
};

use crate::{
    fleet::{Beat, Fleet, Inventory, Partition},
    hub::{Claim, ExistingFunction, ExistingGroup, Hub, Keeper, Written},
    membership::{Remembered, Watch},
    plan::{Change, Plan},
};

/// The configuration of a hub's document with more fields under `federation`, in YAML's flow style, each followed by a comma.
pub(crate) fn hub_config(fields: &str) -> HubConfig {
    let document = format!(
        "{{apiVersion: adx-mon.azure.com/v1, kind: ADXCluster, metadata: {{name: hub}}, spec: {{clusterName: hub, endpoint: \"https://hub.kusto.windows.net\", role: Federated, federation: {{{fields} heartbeatDatabase: FleetDiscovery, heartbeatTable: Heartbeats}}}}}}"
    );
    let document = parse_documents(&document).unwrap().remove(0);
    match validate(&document).unwrap() {
        Validated::Hub(config) => *config,
        Validated::Partition(_) => panic!("its role is Federated"),
    }
}

/// A hub on loopback that answers each command, by its text, with this; and the texts that it was sent.
pub(crate) async fn answering_hub(
    answer: impl Fn(&str) -> Value + Send + 'static,
) -> (KustoClient, Arc<Mutex<Vec<String>>>) {
    let sent = Arc::<Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&sent);
    let endpoint = answering_cluster(move |asked| {
        let text = asked.text();
        let body = answer(&text);
        seen.lock().unwrap().push(text);
        (200, body)
    });
    let client = KustoClient::new(endpoint.await, &CredentialConfig::None, ClientOptions::default()).unwrap();
    (client, sent)
}

/// The answer of a hub to a query.
pub(crate) fn answer_to_query(columns: &[(&str, &str)], rows: impl Iterator<Item = Value>) -> Value {
    let columns: Value = columns.iter().map(|(name, kind)| json!({"ColumnName": name, "ColumnType": kind})).collect();
    let rows: Value = rows.collect();
    json!([
        {"FrameType": "DataSetHeader", "IsProgressive": false, "Version": "v2.0"},
        {"FrameType": "DataTable", "TableId": 0, "TableKind": "PrimaryResult", "TableName": "PrimaryResult", "Columns": columns, "Rows": rows},
        {"FrameType": "DataSetCompletion", "HasErrors": false, "Cancelled": false},
    ])
}

/// The answer of a hub to an ingestion.
pub(crate) fn ingested(has_errors: bool) -> Value {
    let columns = ["HasErrors", "OperationId"].map(|name| json!({"ColumnName": name, "DataType": "Object"}));
    json!({"Tables": [{"TableName": "Table_0", "Columns": columns, "Rows": [[has_errors, "7f"]]}]})
}

/// Gives a heartbeat an attribute.
pub(crate) fn set_attribute(beat: &mut Beat, name: &str, value: impl Into<Value>) {
    Arc::make_mut(&mut beat.metadata).insert(name.to_owned(), value.into());
}

pub(crate) fn cluster(host: &str) -> ClusterEndpoint {
    ClusterEndpoint::parse(&format!("https://{host}.kusto.windows.net")).unwrap()
}

/// What is remembered of a member that was seen to fall silent then.
pub(crate) fn silent_since(at: Timestamp) -> Remembered {
    Remembered {
        state: PartitionState::Suspect,
        since: at,
        silent_since: Some(at),
        returns: Vec::new(),
        beats: 0,
        counted: Timestamp::UNIX_EPOCH,
        needs: 1,
        schema_hash: None,
        zone: None,
        reason: None,
        problem: None,
        is_member: true,
        watch: Watch::Kept,
    }
}

/// When tests decide.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

/// Partitions: host, age of the newest beat in minutes, schema (`null`: unreadable).
pub(crate) fn fleet(partitions: &[(&str, i64, Value)]) -> Fleet {
    let partition = |(host, age, schema): &(&str, i64, Value)| {
        let received = now() - SignedDuration::from_mins(*age);
        let schema = parse_schema(schema, Limits::default()).0;
        let inventory = schema.map_or(Inventory::Unknown, |schema| Inventory::Known(Arc::new(schema)));
        let beat = Beat { received, new_beats: 1, inventory, ..Beat::forgotten(cluster(host)) };
        let state = match age {
            ..13 => PartitionState::Live,
            13..=60 => PartitionState::Suspect,
            _ => PartitionState::Expired,
        };
        let (since, zone) = (received, None);
        let partition = Partition { beat, state, since, zone, reason: None, missed_beats: 0, kept_by: None };
        (cluster(host), partition)
    };
    partitions.iter().map(partition).collect()
}

/// Makes the hub what a plan would make of it.
pub(crate) fn applied(mut hub: Hub, plan: &Plan) -> Hub {
    for change in plan.changes.clone() {
        let place = hub.databases.get_mut(change.database()).expect("plans only change databases that exist");
        let groups = place.groups.as_mut().expect("plans leave unreadable databases alone");
        match change {
            Change::CreateGroup { database, group, members } => {
                groups.insert(group.clone(), ExistingGroup::Members(members));
                hub.claims.insert((database, group), Claim { is_made: true, intended: BTreeSet::new() });
            }
            Change::AlterGroup { group, members, .. } => {
                groups.insert(group, ExistingGroup::Members(members));
            }
            Change::PutFunction { function, .. } => {
                let existing = ExistingFunction {
                    keeper: Keeper::Us,
                    docstring: function.docstring(),
                    written: Written::of(&function),
                };
                place.functions.insert(function.function, existing);
            }
            Change::DropFunction { function, .. } => drop(place.functions.remove(&function)),
            Change::DropGroup { database, group } => {
                groups.remove(&group);
                hub.claims.remove(&(database, group));
            }
        }
    }
    hub
}
