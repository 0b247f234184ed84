//! The part of the hub's configuration that decisions depend on. Pure.

use std::time::Duration;

use jiff::SignedDuration;
use kql::{names::DatabaseName, statements::StatusBody};
use shared::document::{HubConfig, MembershipConfig};

use crate::{
    guards::GuardSettings,
    membership::Thresholds,
    setup::members_table,
    trust::{HostPattern, Trust},
};

/// What `desired` and `plan` need to know of the ADXCluster document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When a partition counts as what.
    pub thresholds: Thresholds,
    /// When guards hold.
    pub guards: GuardSettings,
    /// The plan that is made although a guard holds it.
    pub acknowledged_plan: Option<String>,
    /// Begins the name of every federated function.
    pub function_prefix: String,
    /// Marks our functions as this agent's: its heartbeat database.
    pub keeper: DatabaseName,
    /// The folder of our functions.
    pub folder: String,
    /// Leave out partitions that cannot be reached, instead of failing the query.
    pub best_effort: bool,
    /// Whether columns that partitions have with different types are converted to one.
    pub converts_columns: bool,
    /// Attributes for whose values there are groups of their own.
    pub group_attributes: Vec<String>,
    /// What `federation_status()` asks.
    pub status: Option<StatusBody>,
}

/// A duration of the document, for times by the hub's clock.
pub(crate) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

impl From<&HubConfig> for Settings {
    fn from(config: &HubConfig) -> Self {
        let MembershipConfig {
            join_after_beats,
            return_after_beats,
            suspect_after_missed_beats,
            flapping_returns,
            flapping_window,
            removal_percent,
            mass_expiry_percent,
            mass_expiry_partitions,
            zone_attribute,
            guard_time_limit,
        } = config.membership.clone();
        Self {
            thresholds: Thresholds {
                time_to_live: signed(config.heartbeat_ttl),
                interval: signed(config.heartbeat_interval),
                suspect_after: suspect_after_missed_beats,
                join_after: join_after_beats,
                return_after: return_after_beats,
                flapping_returns,
                flapping_window: signed(flapping_window),
            },
            guards: GuardSettings {
                removal_percent,
                mass_percent: mass_expiry_percent,
                mass_partitions: mass_expiry_partitions,
                zone_attribute,
                time_limit: guard_time_limit.map(signed),
            },
            acknowledged_plan: config.acknowledged_plan.clone(),
            function_prefix: config.function_prefix.clone(),
            keeper: config.heartbeat_database.clone(),
            folder: config.folder.clone(),
            best_effort: config.best_effort,
            converts_columns: config.converts_columns,
            group_attributes: config.group_attributes.clone(),
            status: Some(StatusBody {
                database: config.heartbeat_database.clone(),
                source: config.heartbeats.clone(),
                members: members_table(),
                window: config.heartbeat_retention,
                time_to_live: config.heartbeat_ttl,
            }),
        }
    }
}

/// Whom the document's owner lets in.
pub fn trust(config: &HubConfig) -> Trust {
    let config = &config.trust;
    Trust {
        allowed: config.allowed.as_ref().map(|allowed| allowed.iter().cloned().collect()),
        pattern: config.pattern.as_deref().map(HostPattern::new),
        blocked: config.blocked.iter().cloned().collect(),
        ..Trust::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, hub_config};

    #[test]
    fn every_field_of_the_document_is_the_setting_of_its_name() {
        let config = hub_config(
            "heartbeatTTL: 3h, heartbeatInterval: 20m, acknowledgedPlan: \"0123456789AB\", entityGroups: [{by: geo}, {by: tenant}], schemaConflicts: Report, \
             macroExpand: {functionPrefix: f_, folder: ours, bestEffort: false}, membership: {joinAfterBeats: 2, returnAfterBeats: 3, suspectAfterMissedBeats: 4, \
             flappingReturns: 5, flappingWindow: 6h, removalPercent: 7, massExpiryPercent: 80, massExpiryPartitions: 9, zoneAttribute: tenant, guardTimeLimit: 10h},",
        );
        let Settings { thresholds, guards, status, .. } = Settings::from(&config);
        let hours = SignedDuration::from_hours;
        let expected = Thresholds {
            time_to_live: hours(3),
            interval: SignedDuration::from_mins(20),
            suspect_after: 4,
            join_after: 2,
            return_after: 3,
            flapping_returns: 5,
            flapping_window: hours(6),
        };
        assert_eq!(thresholds, expected);
        let expected = GuardSettings {
            removal_percent: 7,
            mass_percent: 80,
            mass_partitions: 9,
            zone_attribute: "tenant".to_owned(),
            time_limit: Some(hours(10)),
        };
        assert_eq!(guards, expected);
        let Settings { acknowledged_plan, function_prefix, keeper, folder, best_effort, converts_columns, .. } =
            Settings::from(&config);
        assert_eq!(acknowledged_plan.as_deref(), Some("0123456789ab"));
        assert_eq!((&*function_prefix, keeper.as_str(), &*folder), ("f_", "FleetDiscovery", "ours"));
        assert!(!best_effort && !converts_columns);
        assert_eq!(Settings::from(&config).group_attributes, ["geo", "tenant"]);
        assert_eq!(status.map(|status| status.time_to_live), Some(Duration::from_secs(3 * 60 * 60)));
    }

    #[test]
    fn whom_the_document_lets_in_is_let_in() {
        let pattern = trust(&hub_config("allowedPartitionPattern: \"*-prod.kusto.windows.net\","));
        assert!(pattern.pattern.is_some_and(|pattern| pattern.fits("eu-prod.kusto.windows.net")));
        let lists = trust(&hub_config(
            "allowedPartitions: [\"https://a.kusto.windows.net\"], blockedPartitions: [\"https://b.kusto.windows.net\"],",
        ));
        assert_eq!((lists.allowed, lists.blocked), (Some([cluster("a")].into()), [cluster("b")].into()));
    }
}
