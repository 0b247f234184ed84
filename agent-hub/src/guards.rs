//! Guards: who stays federated although it would leave, and why. A wrongly kept dead partition costs a warning; a wrongly removed live one is silently missing
//! data. Pure; called by `plan`.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use jiff::{SignedDuration, Timestamp};
use kql::{endpoint::ClusterEndpoint, names::DatabaseName};
use shared::runtime::{GuardReason, PartitionState};

use crate::{
    fleet::{Fleet, Inventory, Partition},
    hub::Hub,
    membership::{Membership, Scope, Thresholds},
};

/// When guards hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardSettings {
    /// The most members that may leave in one pass, in percent; one may always.
    pub removal_percent: usize,
    /// The share of the fleet or of a zone, in percent, whose silence is not believed.
    pub mass_percent: usize,
    /// How many must be silent for that, unless the whole fleet is.
    pub mass_partitions: usize,
    /// The attribute by which partitions are in one zone.
    pub zone_attribute: String,
    /// A partition that has been expired for this long is no longer held back by a silence that it shares with others.
    pub time_limit: Option<SignedDuration>,
}

/// Why something is held back. Federation goes on with what the hub has; each ends by itself when its reason is gone, and by a person's acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldReason {
    /// The heartbeat table has no row of any partition.
    #[error(
        "the heartbeat table has no heartbeat yet: start agent-partition beside a cluster, and check its heartbeatDatabase and heartbeatTable"
    )]
    NoHeartbeatYet,
    /// No partition has a heartbeat younger than the TTL. More likely the hub's ingestion or network is down than the whole fleet.
    #[error(
        "none of the {known} partition(s) in the heartbeat table has a beat younger than heartbeatTTL: groups and functions stay as they are"
    )]
    NoLiveHeartbeat {
        /// How many partitions the table remembers.
        known: usize,
    },
    /// So many fell silent together that their agents' network, or the hub's ingestion, is the likelier cause. They stay federated; the rest goes on.
    #[error("{silent} of {of} partitions{} have missed beats or are not trusted any more: they stay federated until beats return or a person acknowledges the plan", of_zone(zone.as_deref()))]
    MassExpiry {
        /// Partitions that missed beats, of those that the hub federates.
        silent: usize,
        /// Partitions that the hub federates.
        of: usize,
        /// The zone, if it is not the whole fleet.
        zone: Option<String>,
    },
    /// A guard of the whole fleet or of a zone held a short while ago. Beats that stopped together do not return together.
    #[error(
        "beats have returned to a fleet that was held: {silent} expired partition(s) stay federated until {until}, one heartbeatTTL after the hold"
    )]
    Recovering {
        /// Partitions that are expired and not back yet.
        silent: usize,
        /// When they are believed to be gone.
        until: Timestamp,
    },
    /// This agent has not watched long enough to believe a silence that began before it did.
    #[error(
        "{silent} expired partition(s) stay federated until this agent has watched for one heartbeatTTL: their silence began before it did"
    )]
    StartupGrace {
        /// How many.
        silent: usize,
    },
    /// More would leave than may in one pass.
    #[error("{leaving} partitions are to leave, at most {allowed} in one pass: the others follow in the next ones")]
    RemovalBudget {
        /// How many would.
        leaving: usize,
        /// How many may.
        allowed: usize,
    },
    /// So many partitions list a database no longer that a role their agents have lost is the likelier cause. They stay in its groups; the rest goes on.
    #[error("{unlisted} of {of} partitions{} that had the database '{database}' are not seen to list it any more{}: they stay in its groups until they are, or a person acknowledges the plan", of_zone(zone.as_deref()), more_databases(*more))]
    UnlistedDatabases {
        /// The database that most of them have stopped listing.
        database: DatabaseName,
        /// Members of its groups that are not seen to list it.
        unlisted: usize,
        /// Members of its groups.
        of: usize,
        /// The zone, if it is not the whole fleet.
        zone: Option<String>,
        /// How many other databases are held likewise.
        more: usize,
        /// Those of all of them that the hub has, too.
        own: Vec<DatabaseName>,
    },
    /// So it was a short while ago. Roles that were lost together are not given back together, and heartbeats that list a database again are spread over an interval.
    #[error(
        "a database is listed again that was held: {unlisted} partition(s) that do not list one yet stay in its groups until {until}, one heartbeatTTL after the hold"
    )]
    RecoveringDatabases {
        /// Partitions that are not seen to list one.
        unlisted: usize,
        /// When the last of them is believed to have lost it.
        until: Timestamp,
    },
    /// That was so when it was last known, and now the groups, or since when databases are not listed, could not be read.
    #[error(
        "many partitions listed a database no longer, and whether that is still so could not be read: they stay in its groups"
    )]
    ListingsUnread {
        /// The databases.
        databases: Vec<DatabaseName>,
    },
    /// The heartbeats could not be read completely. A partial list would look like partitions that died.
    #[error("the heartbeats could not be read completely, so groups and functions stay as they are: {why}")]
    IncompleteRead {
        /// The error and its causes.
        why: String,
    },
}

impl HoldReason {
    /// The label of `guard_active{reason}`.
    pub const fn label(&self) -> GuardReason {
        match self {
            Self::NoHeartbeatYet | Self::NoLiveHeartbeat { .. } => GuardReason::NoLiveHeartbeat,
            Self::MassExpiry { .. } => GuardReason::MassExpiry,
            Self::Recovering { .. } | Self::RecoveringDatabases { .. } => GuardReason::Recovering,
            Self::StartupGrace { .. } => GuardReason::StartupGrace,
            Self::RemovalBudget { .. } => GuardReason::RemovalBudget,
            Self::UnlistedDatabases { .. } | Self::ListingsUnread { .. } => GuardReason::UnlistedDatabases,
            Self::IncompleteRead { .. } => GuardReason::IncompleteRead,
        }
    }

    /// Of which scopes this guard says that many have lost something together: for a time to live after it ends, nothing like it is believed of the rest.
    pub fn scopes(&self) -> Vec<Scope> {
        match self {
            Self::NoHeartbeatYet | Self::NoLiveHeartbeat { .. } | Self::MassExpiry { zone: None, .. } => {
                vec![Scope::Fleet]
            }
            Self::MassExpiry { zone: Some(zone), .. } => vec![Scope::Zone(zone.clone())],
            Self::UnlistedDatabases { own: databases, .. } | Self::ListingsUnread { databases } => {
                databases.iter().cloned().map(Scope::Database).collect()
            }
            Self::Recovering { .. }
            | Self::RecoveringDatabases { .. }
            | Self::StartupGrace { .. }
            | Self::RemovalBudget { .. }
            | Self::IncompleteRead { .. } => Vec::new(),
        }
    }
}

fn of_zone(zone: Option<&str>) -> String {
    zone.map(|zone| format!(" of zone '{zone}'")).unwrap_or_default()
}

fn more_databases(more: usize) -> String {
    if more == 0 { String::new() } else { format!(", and so it is with {more} more") }
}

/// The fleet with everyone federated who must not leave yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Guarded {
    /// The partitions, some kept.
    pub fleet: Fleet,
    /// Why they are.
    pub held: Vec<HoldReason>,
}

/// Holds back whoever must not leave. A fleet without one partition that beats is for the caller to hold as a whole.
pub fn guard(
    fleet: &Fleet,
    hub: &Hub,
    membership: &Membership,
    now: Timestamp,
    thresholds: &Thresholds,
    settings: &GuardSettings,
) -> Guarded {
    let mut guarded = Guarded { fleet: fleet.clone(), held: Vec::new() };
    guarded.keep_unlisted(hub, membership, now, thresholds.time_to_live, settings);
    let mut leaving = Leaving::of(fleet, hub);
    let members = leaving.members;
    let is_beyond_limit = |partition: &Partition| {
        settings.time_limit.is_some_and(|limit| {
            let leaves = [PartitionState::Expired, PartitionState::Untrusted].contains(&partition.state);
            leaves && now.duration_since(partition.since) >= limit
        })
    };
    if leaving.endpoints.is_empty() {
        return guarded;
    }
    for (zone, partitions) in zones(fleet) {
        // Of whose heartbeats nothing can be read, and who beat until then, nobody knows which of the two it is.
        let is_known = |partition: &&&Partition| {
            partition.beat.unread.is_none()
                || matches!(partition.state, PartitionState::Suspect | PartitionState::Flapping)
        };
        let known = || partitions.iter().filter(is_known);
        let count = |is: &dyn Fn(&Partition) -> bool| known().filter(|partition| is(partition)).count();
        let suspect = count(&|partition| match partition.state {
            PartitionState::Suspect => true,
            // It was seen to beat a short while ago, and its rows are gone since then.
            PartitionState::Live => partition.is_forgotten(),
            // Kept through its silences, which does not make them beats.
            PartitionState::Flapping => {
                partition.beat.unread.is_some()
                    || partition.is_forgotten()
                    || partition.missed_beats >= thresholds.suspect_after
            }
            _ => false,
        });
        let federated = [PartitionState::Live, PartitionState::Suspect, PartitionState::Flapping];
        let beating = count(&|partition| federated.contains(&partition.state)) - suspect;
        let of_scope: BTreeSet<_> = partitions.iter().map(|partition| &partition.beat.endpoint).collect();
        let expiring: BTreeSet<_> =
            leaving.endpoints.iter().filter(|endpoint| of_scope.contains(endpoint)).cloned().collect();
        let (silent, of) = (expiring.len() + suspect, expiring.len() + suspect + beating);
        // Beats that stop together do not expire together: their last ones are spread over an interval. So whoever has missed a beat counts, as soon as the first
        // of them expires.
        let is_whole_fleet = zone.is_none() && silent == of;
        let is_mass =
            silent * 100 >= of * settings.mass_percent && (silent >= settings.mass_partitions || is_whole_fleet);
        let reason = if expiring.is_empty() {
            None
        } else if is_mass {
            Some(HoldReason::MassExpiry { silent, of, zone })
        } else {
            let scope = zone.map_or(Scope::Fleet, Scope::Zone);
            membership
                .recovering_until(&scope, now, thresholds.time_to_live)
                .map(|until| HoldReason::Recovering { silent: expiring.len(), until })
        };
        if let Some(reason) = reason {
            guarded.keep(&mut leaving, reason, |partition| {
                expiring.contains(&partition.beat.endpoint) && !is_beyond_limit(partition)
            });
        }
    }
    let unwatched = |partition: &Partition| {
        partition.state == PartitionState::Expired && !membership.has_watched(partition, now, thresholds.time_to_live)
    };
    let silent = leaving.endpoints.iter().filter(|endpoint| unwatched(&fleet[*endpoint])).count();
    if silent > 0 {
        guarded.keep(&mut leaving, HoldReason::StartupGrace { silent }, unwatched);
    }
    let allowed = (members * settings.removal_percent / 100).max(1);
    if leaving.endpoints.len() > allowed {
        let reason = HoldReason::RemovalBudget { leaving: leaving.endpoints.len(), allowed };
        let rest: BTreeSet<_> = leaving.endpoints[allowed..].iter().cloned().collect();
        guarded.keep(&mut leaving, reason, |partition| rest.contains(&partition.beat.endpoint));
    }
    guarded
}

/// Who would leave: listed by a group of ours, and expired or no longer trusted. Whoever a person blocks by name goes without a guard.
pub fn leaving<'a>(fleet: &'a Fleet, hub: &Hub) -> impl Iterator<Item = &'a Partition> + use<'a> {
    let members: BTreeSet<ClusterEndpoint> = hub.members().map(|entity| entity.cluster.clone()).collect();
    fleet.values().filter(move |partition| {
        matches!(partition.state, PartitionState::Expired | PartitionState::Untrusted)
            && members.contains(&partition.beat.endpoint)
    })
}

/// Those who leave in this pass, unless a guard keeps them.
struct Leaving {
    /// Those silent for the longest first.
    endpoints: Vec<ClusterEndpoint>,
    /// How many partitions our groups list.
    members: usize,
}

impl Leaving {
    fn of(fleet: &Fleet, hub: &Hub) -> Self {
        let mut leaving: Vec<&Partition> = leaving(fleet, hub).collect();
        leaving.sort_by_key(|partition| partition.beat.received);
        Self {
            endpoints: leaving.into_iter().map(|partition| partition.beat.endpoint.clone()).collect(),
            members: hub.members().map(|entity| &entity.cluster).collect::<BTreeSet<_>>().len(),
        }
    }
}

impl Guarded {
    fn keep(&mut self, leaving: &mut Leaving, reason: HoldReason, stays: impl Fn(&Partition) -> bool) {
        let label = reason.label();
        let before = leaving.endpoints.len();
        leaving.endpoints.retain(|endpoint| {
            let Some(partition) = self.fleet.get_mut(endpoint) else { return false };
            let stays = stays(partition);
            if stays {
                partition.kept_by = Some(label);
            }
            !stays
        });
        if leaving.endpoints.len() < before {
            self.held.push(reason);
        }
    }
}

impl Guarded {
    /// Databases that many partitions list no longer are kept, also of those that are kept themselves. Only who is seen to list one counts as listing it: who cannot be read, or has fallen silent
    /// since, ends no hold.
    fn keep_unlisted(
        &mut self,
        hub: &Hub,
        membership: &Membership,
        now: Timestamp,
        time_to_live: SignedDuration,
        settings: &GuardSettings,
    ) {
        let leaving = self.fleet.values().flat_map(|partition| &partition.beat.unlisted);
        let leaving = leaving.filter(|(_, unlisted)| !unlisted.stays);
        let leaving: BTreeSet<DatabaseName> = leaving.map(|(database, _)| database.clone()).collect();
        let mut unread: Vec<DatabaseName> = membership.dark_databases().cloned().collect();
        unread.retain(|database| !leaving.contains(database) && self.is_unread(hub, database));
        if !unread.is_empty() {
            self.held.push(HoldReason::ListingsUnread { databases: unread });
        }
        let mut members = BTreeMap::<&DatabaseName, BTreeSet<&ClusterEndpoint>>::new();
        for entity in hub.members().filter(|entity| leaving.contains(&entity.database)) {
            members.entry(&entity.database).or_default().insert(&entity.cluster);
        }
        let lists = |endpoint: &ClusterEndpoint, database: &DatabaseName| {
            let partition = self.fleet.get(endpoint)?;
            let Inventory::Known(inventory) = &partition.beat.inventory else { return None };
            Some(partition.state != PartitionState::Expired && inventory.0.contains_key(database))
        };
        let is_blocked = |endpoint: &ClusterEndpoint| {
            self.fleet.get(endpoint).is_some_and(|partition| partition.state == PartitionState::Blocked)
        };
        let mut held = BTreeMap::new();
        for (database, members) in members {
            let mut scopes = BTreeMap::<Option<&str>, (usize, usize)>::new();
            for endpoint in members.into_iter().filter(|endpoint| !is_blocked(endpoint)) {
                let zone = self.fleet.get(endpoint).and_then(|partition| partition.zone.as_deref());
                let is_unlisted = !lists(endpoint, database).unwrap_or(false);
                for scope in iter::once(None).chain(zone.map(Some)) {
                    let (unlisted, of) = scopes.entry(scope).or_default();
                    (*unlisted, *of) = (*unlisted + usize::from(is_unlisted), *of + 1);
                }
            }
            // What one partition alone has comes and goes with it. Of a zone there must be as many as are silent in one that is not believed.
            let mut many = scopes.into_iter().filter(|(zone, (unlisted, of))| {
                let least = if zone.is_some() { settings.mass_partitions.max(2) } else { 2 };
                *unlisted >= least && unlisted * 100 >= of * settings.mass_percent
            });
            if let Some((zone, (unlisted, of))) = many.next() {
                held.insert(database.clone(), (unlisted, of, zone.map(str::to_owned)));
            }
        }
        if let Some((database, (unlisted, of, zone))) = held.iter().max_by_key(|(_, (unlisted, ..))| *unlisted) {
            let (unlisted, of, zone) = (*unlisted, *of, zone.clone());
            // Of others there are groups, which lack a partition at worst until it lists them again; names that are made up must not fill the record of what was held.
            let own = held.keys().filter(|database| hub.databases.contains_key(*database)).cloned().collect();
            let (database, more) = (database.clone(), held.len() - 1);
            let reason = HoldReason::UnlistedDatabases { database, unlisted, of, zone, more, own };
            self.keep_in_groups_of(reason.label(), |database| held.contains_key(database));
            self.held.push(reason);
        }
        let recovering_until = |database: &DatabaseName| {
            membership.recovering_until(&Scope::Database(database.clone()), now, time_to_live)
        };
        let recovering = leaving.into_iter().filter(|database| !held.contains_key(database));
        let recovering: BTreeMap<DatabaseName, Timestamp> =
            recovering.filter_map(|database| Some((database.clone(), recovering_until(&database)?))).collect();
        let unlisted = self.keep_in_groups_of(GuardReason::Recovering, |database| recovering.contains_key(database));
        if let Some(&until) = recovering.values().max().filter(|_| unlisted > 0) {
            self.held.push(HoldReason::RecoveringDatabases { unlisted, until });
        }
    }

    /// Whether nothing can be said of a database that many partitions listed no longer: its groups are not read, or the heartbeat table was not asked of it.
    fn is_unread(&self, hub: &Hub, database: &DatabaseName) -> bool {
        // One that can be read tells of all: the same groups are in each.
        let is_unseen = hub.databases.values().all(|database| database.groups.is_err());
        let mut unlisted = self.fleet.values().filter_map(|partition| partition.beat.unlisted.get(database));
        is_unseen || unlisted.any(|unlisted| !unlisted.is_known)
    }

    /// Keeps in the groups of such databases whoever would leave them, and tells how many partitions those are.
    fn keep_in_groups_of(&mut self, label: GuardReason, is_kept: impl Fn(&DatabaseName) -> bool) -> usize {
        let mut kept = 0;
        for partition in self.fleet.values_mut() {
            let is_federated = partition.is_federated();
            let unlisted = partition.beat.unlisted.iter_mut();
            let mut leaving = unlisted.filter(|(database, is)| !is.stays && is_kept(database)).peekable();
            kept += usize::from(is_federated && leaving.peek().is_some());
            for (_, unlisted) in leaving {
                unlisted.stays = true;
                // A person is told of the hold: what can be known no more is not made worse meanwhile.
                unlisted.is_unread |= unlisted.content.is_none();
                // Who leaves as a whole is not kept by this.
                partition.kept_by = is_federated.then_some(label);
            }
        }
        kept
    }
}

/// The fleet as a whole, then each zone of it. A partition that names no zone is in none.
fn zones(fleet: &Fleet) -> Vec<(Option<String>, Vec<&Partition>)> {
    let mut zones = BTreeMap::<String, Vec<&Partition>>::new();
    for partition in fleet.values() {
        if let Some(zone) = &partition.zone {
            zones.entry(zone.clone()).or_default().push(partition);
        }
    }
    let whole = (None, fleet.values().collect());
    iter::once(whole).chain(zones.into_iter().map(|(zone, partitions)| (Some(zone), partitions))).collect()
}
