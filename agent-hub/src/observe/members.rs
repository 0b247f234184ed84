//! What an earlier process remembered of the membership. I/O: one query, when the agent starts, has lost sight, or looks again.

use jiff::Timestamp;
use kql::{endpoint::ClusterEndpoint, statements::ReadMembers};
use shared::{
    document::HubConfig,
    kusto::{DecodeError, KustoClient, ResultTable},
    runtime::{GuardReason, PartitionState},
};

use super::{ObserveError, asking, decoding};
use crate::{
    membership::{Darkness, Lacking, Membership, Remembered, RememberedGuard, Scope, Watch},
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
                    schema_hash: Some(row.string("SchemaHash")?.to_owned()).filter(|hash| !hash.is_empty()),
                    // Which of the two it was joining by is not recorded.
                    needs: match state {
                        PartitionState::Joining => {
                            config.membership.join_after_beats.max(config.membership.return_after_beats)
                        }
                        _ => config.membership.join_after_beats,
                    },
                    reason: None,
                    problem: Some(row.string("Reason")?.to_owned()).filter(|reason| !reason.is_empty()),
                    is_member: true,
                    watch: Watch::Kept,
                };
                membership.partitions.insert(endpoint, remembered);
            }
            "Darkness" | "Unlisted" => {
                let Some(scope) = Scope::from_record(kind, name) else { continue };
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
            "Missing" => membership.missing = Lacking { words: row.string("Reason")?.to_owned(), since },
            "Incomplete" => membership.incomplete = Lacking { words: row.string("Reason")?.to_owned(), since },
            _ => {}
        }
    }
    Ok(membership)
}

#[cfg(test)]
mod tests {
    use kql::{names::DatabaseName, types::ScalarType};
    use proptest::{
        array,
        collection::{btree_map, vec},
        option,
        prelude::*,
        sample::select,
    };
    use serde_json::{Value, json};
    use shared::kusto::ColumnInfo;

    use super::*;
    use crate::testing::{cluster, hub_config};

    /// What Kusto makes of lines of the table, in the columns that the query asks for.
    fn answer(lines: &str) -> ResultTable {
        let columns = [
            ("Kind", ScalarType::String),
            ("Name", ScalarType::String),
            ("State", ScalarType::String),
            ("Since", ScalarType::DateTime),
            ("SilentSince", ScalarType::DateTime),
            ("Returns", ScalarType::Dynamic),
            ("Reason", ScalarType::String),
            ("Beats", ScalarType::Long),
            ("Counted", ScalarType::DateTime),
            ("Zone", ScalarType::String),
            ("SchemaHash", ScalarType::String),
        ];
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(lines.as_bytes());
        let rows = reader.records().map(|record| {
            let record = record.expect("a line is CSV");
            assert_eq!(record.len(), 1 + columns.len(), "its first field is when it was written");
            let values = columns.iter().zip(record.iter().skip(1)).map(|((_, scalar_type), text)| match scalar_type {
                ScalarType::DateTime if text.is_empty() => Value::Null,
                ScalarType::Dynamic => serde_json::from_str(text).expect("a dynamic value is JSON"),
                ScalarType::Long => json!(text.parse::<i64>().expect("a number")),
                _ => json!(text),
            });
            values.collect()
        });
        let rows = rows.collect();
        let column = |(name, scalar_type): &(&str, ScalarType)| ColumnInfo {
            name: (*name).to_owned(),
            scalar_type: *scalar_type,
        };
        ResultTable::new(columns.iter().map(column).collect(), rows)
    }

    fn times() -> impl Strategy<Value = Timestamp> {
        (0..4_000_000_000_000_000_i64)
            .prop_map(|micros| Timestamp::from_microsecond(micros).expect("it is before 2100"))
    }

    /// Also what strangers write. Neither attributes nor problems have what ends a line.
    fn texts() -> impl Strategy<Value = String> {
        r"[\PC&&[^\u{2028}\u{2029}]]{1,40}"
    }

    prop_compose! {
        fn remembered()(
            state in select(PartitionState::ALL),
            (since, silent_since) in (times(), option::of(times())),
            returns in vec(times(), 0..5),
            (beats, counted) in (0..u64::from(u32::MAX), times()),
            (zone, problem, schema_hash) in (option::of(texts()), option::of(texts()), option::of("[0-9a-f]{16}")),
        ) -> Remembered {
            let needs = if state == PartitionState::Joining { 5 } else { 3 };
            Remembered { state, since, silent_since, returns, beats, counted, needs, schema_hash, zone, reason: None, problem, is_member: true, watch: Watch::Kept }
        }
    }

    prop_compose! {
        fn memberships()(
            partitions in btree_map("[a-z]{1,9}".prop_map(|host| cluster(&host)), remembered(), 0..6),
            darkness in btree_map(
                prop_oneof![
                    Just(Scope::Fleet),
                    texts().prop_map(Scope::Zone),
                    "[a-z]{1,9}".prop_map(|name| Scope::Database(DatabaseName::new(name).expect("a name"))),
                ],
                prop_oneof![times().prop_map(|since| Darkness::Dark { since }), times().prop_map(|at| Darkness::Over { at })],
                0..4,
            ),
            guards in btree_map(
                select(GuardReason::ALL),
                (any::<bool>(), times(), texts()).prop_map(|(is_active, since, reason)| RememberedGuard { is_active, since, reason }),
                0..4,
            ),
            lacking in array::uniform2(option::of((texts(), times()).prop_map(|(words, since)| Lacking { words, since }))),
        ) -> Membership {
            let [missing, incomplete] = lacking.map(Option::unwrap_or_default);
            Membership { partitions, darkness, guards, missing, incomplete, watching_since: None }
        }
    }

    proptest! {
        #[test]
        fn what_was_recorded_is_read_back_equal(membership in memberships()) {
            let config = hub_config("membership: {joinAfterBeats: 3, returnAfterBeats: 5}, ");
            let records = membership.changed_since(&Membership::default());
            let lines: String = records.iter().map(|record| record.csv_line(Timestamp::UNIX_EPOCH)).collect();
            prop_assert_eq!(parse(&config, &answer(&lines)).expect("the answer has all columns"), membership);
        }
    }

    #[test]
    fn a_guard_of_a_blind_pass_is_read_back_equal_however_fine_its_clock_and_long_its_reason() {
        let mut membership = Membership::default();
        let at = "2026-11-03T10:00:00.123456789Z".parse().unwrap();
        membership.note_guard(GuardReason::IncompleteRead, &format!("no answer:\n{}", "x".repeat(600)), at);
        let lines: String = membership
            .guards_changed_since(&Membership::default())
            .map(|record| record.csv_line(Timestamp::UNIX_EPOCH))
            .collect();
        // Kusto's times are of 100 ns.
        assert!(lines.contains(",2026-11-03T10:00:00.123456Z,"), "{lines}");
        let recorded = parse(&hub_config(""), &answer(&lines)).unwrap();
        assert_eq!(membership.guards_changed_since(&recorded).next(), None);
    }
}
