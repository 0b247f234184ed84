//! What an earlier process remembered of the membership. I/O: one query, when the agent starts or has lost sight.

use jiff::Timestamp;
use kql::{endpoint::ClusterEndpoint, statements::ReadMembers};
use shared::{
    document::HubConfig,
    kusto::{DecodeError, KustoClient, ResultTable},
    runtime::{GuardReason, PartitionState},
};

use super::{ObserveError, asking, decoding};
use crate::{
    membership::{Darkness, Membership, Remembered, RememberedGuard, Scope},
    setup::members_table,
};

const MEMBERS: &str = "the memory of the membership";

/// Reads it. Rows that nobody understands any more are as good as none.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_members(hub: &KustoClient, config: &HubConfig) -> Result<Membership, ObserveError> {
    let request = ReadMembers { database: &config.heartbeat_database, table: &members_table() }.request();
    parse(config, &hub.send(&request).await.map_err(asking(MEMBERS))?).map_err(decoding(MEMBERS))
}

fn parse(config: &HubConfig, table: &ResultTable) -> Result<Membership, DecodeError> {
    let mut membership = Membership::default();
    for row in table.rows() {
        let (kind, name, state) = (row.string("Kind")?, row.string("Name")?, row.string("State")?);
        let Some(since) = row.datetime("Since")? else { continue };
        match kind {
            "Partition" => {
                let state = PartitionState::ALL.iter().find(|known| known.as_str() == state);
                let (Ok(endpoint), Some(&state)) = (ClusterEndpoint::parse(name), state) else { continue };
                let returns = row.dynamic("Returns")?;
                let returns = returns.as_array().into_iter().flatten();
                let remembered = Remembered {
                    state,
                    since,
                    silent_since: row.datetime("SilentSince")?,
                    returns: returns.filter_map(|at| at.as_str()?.parse::<Timestamp>().ok()).collect(),
                    beats: row.long("Beats")?.and_then(|beats| u64::try_from(beats).ok()).unwrap_or(0),
                    counted: row.datetime("Counted")?.unwrap_or(Timestamp::UNIX_EPOCH),
                    zone: Some(row.string("Zone")?.to_owned()).filter(|zone| !zone.is_empty()),
                    // Which of the two it was joining by is not recorded.
                    needs: match state {
                        PartitionState::Joining => {
                            config.membership.join_after_beats.max(config.membership.return_after_beats)
                        }
                        _ => config.membership.join_after_beats,
                    },
                    reason: None,
                    problem: Some(row.string("Reason")?.to_owned()).filter(|reason| !reason.is_empty()),
                };
                membership.partitions.insert(endpoint, remembered);
            }
            "Darkness" => {
                let scope = Scope::from_name(name);
                let darkness = match state {
                    "dark" => Darkness::Dark { since },
                    _ => Darkness::Over { at: since },
                };
                membership.darkness.insert(scope, darkness);
            }
            "Guard" => {
                let Some(&label) = GuardReason::ALL.iter().find(|label| label.as_str() == name) else { continue };
                let reason = row.string("Reason")?.to_owned();
                membership.guards.insert(label, RememberedGuard { is_active: state == "active", since, reason });
            }
            _ => {}
        }
    }
    Ok(membership)
}
