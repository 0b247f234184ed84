//! Sends a heartbeat to one hub. I/O: one request, two where streaming is refused.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kql::statements::IngestInline;
use shared::{
    document::HubTarget,
    heartbeat::{Heartbeat, SchemaInventory},
    kusto::{ClientError, ClientOptions, Failure, KustoClient, KustoError},
    runtime::{Backoff, chain},
};
use tokio::time;

/// After so many beats by command, streaming is tried again: a hub whose table was just made enables it moments later.
const TRY_STREAMING_EVERY: u32 = 6;

/// A hub, and by which way it takes heartbeats.
#[derive(Debug)]
pub struct Publisher {
    hub: KustoClient,
    target: HubTarget,
    /// Beats still to be sent by command before streaming is tried again.
    inline_beats: u32,
    /// How long an unchanged schema may be left out.
    schema_rests: Option<Duration>,
    /// The schema that the hub took last, and when.
    taken: Option<(SchemaInventory, Instant)>,
    backoff: Backoff,
    /// When the beat that the hub did not take is sent again.
    again: Option<Instant>,
}

impl Publisher {
    /// A publisher for one hub; sends nothing yet.
    ///
    /// # Errors
    /// If the hub's host is not to be trusted.
    pub fn new(target: HubTarget, schema_rests: Option<Duration>, options: ClientOptions) -> Result<Self, ClientError> {
        let hub = KustoClient::new(target.endpoint.clone(), &target.credential, options)?;
        Ok(Self { hub, target, inline_beats: 0, schema_rests, taken: None, backoff: Backoff::default(), again: None })
    }

    /// The hub.
    pub const fn target(&self) -> &HubTarget {
        &self.target
    }

    /// When this hub must get a beat although no regular one is due: it did not take the last.
    pub const fn again(&self) -> Option<Instant> {
        self.again
    }

    /// Sends the heartbeat. A hub that does not take it within `patience` gets another, sooner than the schedule says and ever later while it refuses.
    ///
    /// # Errors
    /// What the hub answered, or why it could not be asked.
    pub async fn beat(&mut self, heartbeat: &Heartbeat, patience: Duration) -> Result<Timestamp, KustoError> {
        let result = match time::timeout(patience, self.publish(heartbeat)).await {
            Ok(result) => result,
            Err(_) => Err(self.late(patience)),
        };
        self.again = match &result {
            Ok(_) => {
                self.backoff.reset();
                None
            }
            Err(error) => {
                let wished = match error.failure {
                    Failure::Throttled { retry_after } => retry_after.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                Some(Instant::now() + self.backoff.next_wait().max(wished))
            }
        };
        result
    }

    /// Sends the heartbeat, without its schema where the hub has that and the document lets it rest.
    async fn publish(&mut self, heartbeat: &Heartbeat) -> Result<Timestamp, KustoError> {
        if self.has_taken(heartbeat) {
            return self.send(&Heartbeat { schema: None, ..heartbeat.clone() }).await;
        }
        let sent = self.send(heartbeat).await?;
        self.taken = self.schema_rests.and(heartbeat.schema.clone()).map(|schema| (schema, Instant::now()));
        Ok(sent)
    }

    fn has_taken(&self, heartbeat: &Heartbeat) -> bool {
        let (Some(rests), Some((taken, at))) = (self.schema_rests, &self.taken) else { return false };
        heartbeat.schema.as_ref() == Some(taken) && at.elapsed() < rests
    }

    /// Sends the heartbeat by streaming ingestion, or by `.ingest inline` where the hub refuses to stream.
    async fn send(&mut self, heartbeat: &Heartbeat) -> Result<Timestamp, KustoError> {
        let records = heartbeat.to_csv_row();
        if self.inline_beats > 0 {
            self.inline_beats -= 1;
            return self.send_inline(&records).await;
        }
        match self.hub.ingest_csv(&self.target.database, &self.target.table, &records).await {
            Ok(()) => Ok(Timestamp::now()),
            Err(error) if may_take_commands(&error.failure) => {
                tracing::info!(hub = %self.target.endpoint, error = chain(&error), "streaming failed: the heartbeat goes by command");
                let sent = self.send_inline(&records).await?;
                self.inline_beats = TRY_STREAMING_EVERY;
                Ok(sent)
            }
            Err(error) => Err(error),
        }
    }

    /// The hub did not take the heartbeat in time.
    fn late(&self, after: Duration) -> KustoError {
        KustoError {
            endpoint: self.target.endpoint.clone(),
            request: "heartbeat",
            failure: Failure::TimedOut { after },
        }
    }

    async fn send_inline(&self, records: &str) -> Result<Timestamp, KustoError> {
        let HubTarget { database, table, .. } = &self.target;
        self.hub.ingest_inline(&IngestInline { database, table, records }).await?;
        Ok(Timestamp::now())
    }
}

/// Whether a hub that did not take a stream may still take a command: not if it refused who we are, asked for patience, or cannot be reached.
const fn may_take_commands(failure: &Failure) -> bool {
    match failure {
        Failure::Rejected { .. } | Failure::NotKusto { .. } | Failure::TooLarge { .. } | Failure::Incomplete { .. } => {
            true
        }
        Failure::Transport { .. }
        | Failure::TimedOut { .. }
        | Failure::Credential(_)
        | Failure::Unauthorized { .. }
        | Failure::Throttled { .. }
        | Failure::Redirected { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kql::{
        endpoint::ClusterEndpoint,
        names::{DatabaseName, TableName},
    };
    use serde_json::{Value, json};
    use shared::{credential::CredentialConfig, testing::answering_cluster};

    use super::*;

    /// For a hub on loopback that refuses to stream, and answers each command so. Its schemas may rest.
    async fn publisher(answer: Value) -> Publisher {
        let refusal = json!({"error": {"code": "BadRequest", "@message": "it does not stream", "@permanent": true}});
        let endpoint = answering_cluster(move |asked| {
            let is_streamed = asked.line.contains("/v1/rest/ingest/");
            if is_streamed { (400, refusal.clone()) } else { (200, answer.clone()) }
        })
        .await;
        let target = HubTarget {
            path: "spec.federation.federatedClusters[0]".to_owned(),
            endpoint,
            database: DatabaseName::new("FleetDiscovery").unwrap(),
            table: TableName::new("Heartbeats").unwrap(),
            credential: CredentialConfig::None,
        };
        Publisher::new(target, Some(Duration::from_secs(3_600)), ClientOptions::default()).unwrap()
    }

    fn answer(column: &str, rows: &Value) -> Value {
        let columns = [column, "OperationId"].map(|name| json!({"ColumnName": name, "DataType": "Object"}));
        json!({"Tables": [{"TableName": "Table_0", "Columns": columns, "Rows": rows}]})
    }

    #[tokio::test]
    async fn a_beat_by_command_is_taken_where_the_hub_says_that_it_was_stored_and_else_goes_again_whole() {
        let heartbeat = Heartbeat {
            timestamp: Timestamp::UNIX_EPOCH,
            endpoint: ClusterEndpoint::parse("https://eu.kusto.windows.net").unwrap(),
            schema: Some(SchemaInventory::default()),
            is_stale: false,
            metadata: BTreeMap::new(),
        };
        for (answer, is_taken) in [
            (answer("HasErrors", &json!([[false, "7f"]])), true),
            (answer("HasErrors", &json!([[0, "7f"]])), true),
            (answer("HasErrors", &json!([[true, "7f"]])), false),
            (answer("HasErrors", &json!([[1, "7f"]])), false),
            (answer("HasErrors", &json!([[null, "7f"]])), false),
            (answer("HasErrors", &json!([])), false),
            (answer("ExtentId", &json!([["8e", "7f"]])), true),
            (answer("ExtentId", &json!([["00000000-0000-0000-0000-000000000000", "7f"]])), false),
            (answer("Name", &json!([["8e", "7f"]])), false),
        ] {
            let what = answer.to_string();
            let mut publisher = publisher(answer).await;
            let result = publisher.beat(&heartbeat, Duration::from_secs(60)).await;
            assert_eq!(result.is_ok(), is_taken, "{what}: {result:?}");
            assert_eq!(publisher.again().is_none(), is_taken, "{what}");
            assert_eq!(publisher.has_taken(&heartbeat), is_taken, "the schema of {what}");
            assert_eq!(publisher.inline_beats > 0, is_taken, "streaming is tried again after {what}");
        }
    }
}
