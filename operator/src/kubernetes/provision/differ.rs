//! What of a cluster is changed: three ways, between what the spec says, what it said when it was applied last, and what Azure has. A difference that the spec did not
//! make is somebody's change in Azure, and stays. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use shared::document::provisioned::{AppliedAutoScale, AppliedDatabase, AppliedProvisionState};

use super::desired::{autoscale_of, fewest_nodes, time_span};
use crate::azure::types::{
    Cluster, ClusterUpdate, ClusterUpdateProperties, Database, Identity, ProvisioningState, Sku, UserAssignedIdentity,
};

/// How long Azure may take to show a database after it was made.
const SHOWN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// What one comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Azure has what the spec says.
    Same,
    /// The spec changed since it was applied.
    Change,
    /// Somebody changed it in Azure, or had it so before us.
    Keep,
}

/// `applied`: `None` if nothing is known to have been applied, as for a cluster that was there before.
fn verdict<T: PartialEq>(wanted: &T, applied: Option<&T>, actual: &T) -> Verdict {
    if wanted == actual {
        Verdict::Same
    } else if applied.is_none_or(|applied| applied == wanted) {
        Verdict::Keep
    } else {
        Verdict::Change
    }
}

/// What a cluster's properties are to become.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// One request for all of it.
    pub(super) update: Option<ClusterUpdate>,
    /// In the words of a message: what is changed.
    pub(super) changes: Vec<String>,
    /// What stays although the spec says otherwise.
    pub(super) kept: Vec<String>,
}

/// What Azure has because it was asked for it is no person's change: it counts as applied, also where the spec has changed again since.
pub(super) fn absorb(requested: &AppliedProvisionState, applied: &mut AppliedProvisionState, actual: &Cluster) {
    if requested.sku_name.as_ref() == Some(&actual.sku.name) {
        (applied.sku_name, applied.tier) = (requested.sku_name.clone(), requested.tier.clone());
    }
    if requested.auto_scale.is_some_and(|scale| comparable(scale) == scale_of(actual)) {
        applied.auto_scale = requested.auto_scale;
    }
    let attached = attached(actual);
    let ids = &mut applied.user_assigned_identities;
    ids.retain(|id| has(&requested.user_assigned_identities, id) || has(&attached, id));
    for id in &requested.user_assigned_identities {
        if has(&attached, id) && !has(ids, id) {
            ids.push(id.clone());
        }
    }
}

/// The same for how long databases keep rows.
pub(super) fn absorb_databases(requested: &[AppliedDatabase], applied: &mut [AppliedDatabase], actual: &[Database]) {
    for known in applied {
        let there = actual.iter().find(|there| same(there.short_name(), &known.name));
        let wanted = requested.iter().find(|wanted| same(&wanted.name, &known.name));
        if let (Some(there), Some(wanted)) = (there, wanted)
            && wanted.soft_delete_period.is_some()
            && period(&wanted.soft_delete_period) == period(&there.properties.soft_delete_period)
        {
            known.soft_delete_period.clone_from(&wanted.soft_delete_period);
        }
    }
}

fn has(list: &[String], id: &str) -> bool {
    list.iter().any(|other| other.eq_ignore_ascii_case(id))
}

/// Azure's names are the same in any case.
fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn period(text: &Option<String>) -> Option<SignedDuration> {
    text.as_deref().and_then(time_span)
}

/// The limits of what is off do not matter.
fn comparable(scale: AppliedAutoScale) -> AppliedAutoScale {
    if scale.enabled { scale } else { AppliedAutoScale::default() }
}

fn scale_of(actual: &Cluster) -> AppliedAutoScale {
    let scale = actual.properties.optimized_autoscale.as_ref().map(|scale| AppliedAutoScale {
        enabled: scale.is_enabled,
        min: scale.minimum,
        max: scale.maximum,
    });
    comparable(scale.unwrap_or_default())
}

fn attached(actual: &Cluster) -> Vec<String> {
    let ids = actual.identity.as_ref().and_then(|identity| identity.user_assigned_identities.as_ref());
    ids.into_iter().flatten().map(|(id, _)| id.clone()).collect()
}

/// Compares SKU, identities and scaling, and brings `applied` up to date where Azure has what the spec says, or keeps what it has.
pub(super) fn compare(
    desired: &AppliedProvisionState,
    applied: &mut Option<AppliedProvisionState>,
    actual: &Cluster,
) -> Difference {
    let before = applied.clone();
    let mut comparison = Comparison {
        desired,
        before: before.as_ref(),
        actual,
        after: applied.get_or_insert_with(AppliedProvisionState::default),
        update: ClusterUpdate::default(),
        difference: Difference::default(),
    };
    comparison.sku();
    comparison.scale();
    comparison.identities();
    let Comparison { update, mut difference, .. } = comparison;
    difference.update = (!difference.changes.is_empty()).then_some(update);
    difference
}

/// A comparison under way: its three sides, and what comes of it.
struct Comparison<'a> {
    desired: &'a AppliedProvisionState,
    /// `None`: nothing is known to have been applied.
    before: Option<&'a AppliedProvisionState>,
    actual: &'a Cluster,
    after: &'a mut AppliedProvisionState,
    update: ClusterUpdate,
    difference: Difference,
}

impl Comparison<'_> {
    fn keep(&mut self, field: &str, wanted: &str, actual: &str) {
        self.difference.kept.push(format!(
            "spec.provision.{field} says {wanted}, and Azure has {actual}, which somebody chose there: it stays until the spec changes"
        ));
    }

    fn sku(&mut self) {
        // Where the spec names none, whatever Azure has is right.
        let Some(wanted) = &self.desired.sku_name else {
            (self.after.sku_name, self.after.tier) = (None, None);
            return;
        };
        let there = &self.actual.sku;
        let applied = self.before.map(|before| before.sku_name.clone().unwrap_or_default());
        match verdict(wanted, applied.as_ref(), &there.name) {
            Verdict::Same => {}
            Verdict::Keep => self.keep("skuName", wanted, &there.name),
            Verdict::Change => {
                let tier = self.desired.tier.clone().unwrap_or_default();
                let fewest = fewest_nodes(wanted);
                // Azure's scaling, or a person, decides how many nodes there are.
                let capacity = if fewest == 1 { 1 } else { there.capacity.unwrap_or(fewest).max(fewest) };
                self.update.sku = Some(Sku { name: wanted.clone(), tier, capacity: Some(capacity) });
                self.difference.changes.push(format!("the SKU from {} to {wanted}", there.name));
                return;
            }
        }
        (self.after.sku_name, self.after.tier) = (self.desired.sku_name.clone(), self.desired.tier.clone());
    }

    fn scale(&mut self) {
        let Some(wanted) = self.desired.auto_scale else {
            self.after.auto_scale = None;
            return;
        };
        let there = scale_of(self.actual);
        let applied = self.before.map(|before| comparable(before.auto_scale.unwrap_or_default()));
        match verdict(&comparable(wanted), applied.as_ref(), &there) {
            Verdict::Same => {}
            Verdict::Keep => self.keep("autoScale", &told(wanted), &told(there)),
            Verdict::Change => {
                self.update.properties = Some(ClusterUpdateProperties { optimized_autoscale: autoscale_of(wanted) });
                self.difference.changes.push(format!("scaling from {} to {}", told(there), told(wanted)));
                return;
            }
        }
        self.after.auto_scale = Some(wanted);
    }

    fn identities(&mut self) {
        let wanted = &self.desired.user_assigned_identities;
        let attached = attached(self.actual);
        let was_applied = |id: &str| self.before.is_some_and(|before| has(&before.user_assigned_identities, id));
        // What was applied and is gone, somebody took away in Azure. Before anything was applied, the spec's are to be there.
        let missing = wanted.iter().filter(|id| !has(&attached, id));
        let (gone, added): (Vec<&String>, Vec<&String>) = missing.partition(|id| was_applied(id));
        let removed: Vec<&String> = attached.iter().filter(|id| !has(wanted, id) && was_applied(id)).collect();
        self.difference.kept.extend(gone.iter().map(|id| format!(
            "spec.provision.userAssignedIdentities names {id}, which somebody took from the cluster in Azure: it stays so until the spec leaves it out and names it again"
        )));
        if added.is_empty() && removed.is_empty() {
            self.after.user_assigned_identities.clone_from(wanted);
            return;
        }
        let stay = attached.len() - removed.len() + added.len();
        let is_system = self.actual.identity.as_ref().is_some_and(|there| there.kind.contains("SystemAssigned"));
        let kind = match (is_system, stay > 0) {
            (true, true) => "SystemAssigned, UserAssigned",
            (false, true) => "UserAssigned",
            (true, false) => "SystemAssigned",
            (false, false) => "None",
        };
        let add = added.iter().map(|id| ((*id).clone(), Some(UserAssignedIdentity {})));
        let remove = removed.iter().map(|id| ((*id).clone(), None));
        let ids: BTreeMap<_, _> = add.chain(remove).collect();
        self.update.identity =
            Some(Identity { kind: kind.to_owned(), user_assigned_identities: (stay > 0).then_some(ids) });
        self.difference.changes.extend(added.iter().map(|id| format!("the identity {id} is added")));
        self.difference.changes.extend(removed.iter().map(|id| format!("the identity {id} is removed")));
    }
}

fn told(scale: AppliedAutoScale) -> String {
    if scale.enabled { format!("{} to {} nodes", scale.min, scale.max) } else { "off".to_owned() }
}

/// What is done next for the databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DatabaseStep {
    /// All are there as they are to be.
    Done,
    /// One is to be written.
    Write {
        /// Its name and period.
        database: AppliedDatabase,
        /// Whether it is to be made.
        is_new: bool,
    },
    /// Azure is at work on one.
    Busy(String),
    /// Azure accepted one, and does not show it yet.
    NotShown(String),
    /// Somebody deleted one in Azure.
    Deleted(String),
}

/// What a step is decided from besides what is wanted and what is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) now: Timestamp,
    /// Databases whose making is known to have failed.
    pub(super) failed: &'a [String],
    /// Databases that are left out: Azure refused them a moment ago, or for this very spec.
    pub(super) refused: &'a [String],
    /// Databases that the hub's agent misses now.
    pub(super) missed: &'a [String],
}

/// The next step, with what is kept. Brings `applied` up to date.
pub(super) fn next_database(
    desired: &[AppliedDatabase],
    applied: &mut Vec<AppliedDatabase>,
    actual: &[Database],
    around: Around<'_>,
    kept: &mut Vec<String>,
) -> DatabaseStep {
    applied.retain(|known| desired.iter().any(|wanted| same(&wanted.name, &known.name)));
    let mut steps = Vec::new();
    for wanted in desired.iter().filter(|wanted| !has(around.refused, &wanted.name)) {
        let name = &wanted.name;
        let known = applied.iter_mut().find(|known| same(&known.name, name));
        let make = || DatabaseStep::Write { database: wanted.clone(), is_new: true };
        let Some(there) = actual.iter().find(|there| same(there.short_name(), name)) else {
            steps.push(match known {
                // It was made for partitions that have gone since. That somebody deleted it is still known, should one come back.
                Some(known) if known.seen && wanted.found && !has(around.missed, name) => continue,
                Some(known) if known.seen => DatabaseStep::Deleted(name.clone()),
                Some(known) if is_on_its_way(known, around.now) => DatabaseStep::NotShown(name.clone()),
                _ => make(),
            });
            continue;
        };
        let state = there.properties.provisioning_state.as_ref();
        if state.is_some_and(|state| !state.is_terminal()) {
            steps.push(DatabaseStep::Busy(name.clone()));
            continue;
        }
        let was_asked_for = has(around.failed, name) || known.as_ref().is_some_and(|known| !known.seen);
        if was_asked_for && state.is_some_and(ProvisioningState::is_failed) {
            steps.push(make());
            continue;
        }
        match database_verdict(wanted, known.as_deref(), there) {
            Verdict::Same => {}
            Verdict::Keep => kept.push(format!(
                "the database {name} keeps rows for {} in Azure, which somebody chose there, and the spec says {}: it stays until the spec changes",
                there.properties.soft_delete_period.as_deref().unwrap_or("ever"),
                wanted.soft_delete_period.as_deref().unwrap_or("ever"),
            )),
            Verdict::Change => {
                if let Some(known) = known {
                    known.seen = true;
                }
                steps.push(DatabaseStep::Write { database: wanted.clone(), is_new: false });
                continue;
            }
        }
        let now = AppliedDatabase { seen: true, asked: None, ..wanted.clone() };
        match known {
            Some(known) => *known = now,
            None => applied.push(now),
        }
    }
    // What goes on comes first: no other write is taken meanwhile. A deleted one holds up no other.
    let rank = |step: &DatabaseStep| match step {
        DatabaseStep::Busy(_) | DatabaseStep::NotShown(_) => 0,
        DatabaseStep::Write { .. } => 1,
        DatabaseStep::Deleted(_) => 2,
        DatabaseStep::Done => 3,
    };
    steps.into_iter().min_by_key(rank).unwrap_or(DatabaseStep::Done)
}

/// Whether Azure may still be about to show what it accepted.
fn is_on_its_way(known: &AppliedDatabase, now: Timestamp) -> bool {
    known.asked.as_ref().is_some_and(|asked| now.duration_since(asked.0) < SHOWN_AFTER)
}

fn database_verdict(wanted: &AppliedDatabase, known: Option<&AppliedDatabase>, there: &Database) -> Verdict {
    if wanted.soft_delete_period.is_none() {
        return Verdict::Same;
    }
    let before = known.map(|known| period(&known.soft_delete_period));
    verdict(&period(&wanted.soft_delete_period), before.as_ref(), &period(&there.properties.soft_delete_period))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;

    const X: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/x";
    const Y: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/y";

    fn cluster(sku: &str, identities: &[&str], scale: Option<(bool, i32, i32)>) -> Cluster {
        let ids: serde_json::Map<_, _> = identities.iter().map(|id| ((*id).to_owned(), json!({}))).collect();
        let kind = if ids.is_empty() { "SystemAssigned" } else { "SystemAssigned, UserAssigned" };
        let mut cluster = json!({"location": "East US 2", "sku": {"name": sku, "tier": "Standard", "capacity": 5}, "identity": {"type": kind, "userAssignedIdentities": ids}});
        if let Some((enabled, minimum, maximum)) = scale {
            cluster["properties"]["optimizedAutoscale"] =
                json!({"version": 1, "isEnabled": enabled, "minimum": minimum, "maximum": maximum});
        }
        serde_json::from_value(cluster).unwrap()
    }

    fn state(sku: &str, identities: &[&str], scale: Option<(bool, i32, i32)>) -> AppliedProvisionState {
        AppliedProvisionState {
            sku_name: Some(sku.to_owned()).filter(|sku| !sku.is_empty()),
            tier: Some("Standard".to_owned()).filter(|_| !sku.is_empty()),
            user_assigned_identities: identities.iter().map(|&id| id.to_owned()).collect(),
            auto_scale: scale.map(|(enabled, min, max)| AppliedAutoScale { enabled, min, max }),
            databases: Vec::new(),
        }
    }

    /// The request's body, how many were kept, and what is applied afterwards.
    fn compared(
        desired: &AppliedProvisionState,
        applied: Option<AppliedProvisionState>,
        actual: &Cluster,
    ) -> (Value, usize, AppliedProvisionState) {
        let mut applied = applied;
        let difference = compare(desired, &mut applied, actual);
        (serde_json::to_value(difference.update).unwrap(), difference.kept.len(), applied.unwrap())
    }

    #[test]
    fn a_change_of_the_spec_is_made_and_a_persons_change_stays() {
        let (a, b, c) = ("Standard_L8as_v3", "Standard_L16as_v3", "Standard_L32as_v3");
        // As it was applied.
        assert_eq!(
            compared(&state(a, &[], None), Some(state(a, &[], None)), &cluster(a, &[], None)),
            (Value::Null, 0, state(a, &[], None))
        );
        // The spec changed; what is applied changes once Azure has it.
        let sku = json!({"sku": {"name": b, "tier": "Standard", "capacity": 5}});
        assert_eq!(
            compared(&state(b, &[], None), Some(state(a, &[], None)), &cluster(a, &[], None)),
            (sku.clone(), 0, state(a, &[], None))
        );
        assert_eq!(
            compared(&state(b, &[], None), Some(state(a, &[], None)), &cluster(b, &[], None)),
            (Value::Null, 0, state(b, &[], None))
        );
        // Somebody changed Azure.
        assert_eq!(
            compared(&state(a, &[], None), Some(state(a, &[], None)), &cluster(c, &[], None)),
            (Value::Null, 1, state(a, &[], None))
        );
        // Both did: the spec's is newer than what was applied.
        assert_eq!(compared(&state(b, &[], None), Some(state(a, &[], None)), &cluster(c, &[], None)).0, sku);
        // There before us, or the status is lost: nothing is touched.
        assert_eq!(compared(&state(b, &[], None), None, &cluster(a, &[], None)), (Value::Null, 1, state(b, &[], None)));
        // The spec named none, and names one now.
        assert_eq!(compared(&state(b, &[], None), Some(state("", &[], None)), &cluster(a, &[], None)).0, sku);
        // The spec names none any more: Azure's is right.
        assert_eq!(
            compared(&state("", &[], None), Some(state(a, &[], None)), &cluster(b, &[], None)),
            (Value::Null, 0, state("", &[], None))
        );
    }

    #[test]
    fn scaling_is_compared_while_it_is_on() {
        let sku = "Standard_L8as_v3";
        let of = |desired, applied, actual| {
            compared(&state(sku, &[], desired), Some(state(sku, &[], applied)), &cluster(sku, &[], actual))
        };
        let on = Some((true, 2, 8));
        let body = json!({"properties": {"optimizedAutoscale": {"version": 1, "isEnabled": true, "minimum": 2, "maximum": 8}}});
        assert_eq!(of(on, Some((false, 2, 10)), None).0, body);
        assert_eq!(of(on, on, on).0, Value::Null);
        assert_eq!(of(Some((false, 2, 8)), Some((false, 2, 10)), None).0, Value::Null);
        assert_eq!(of(on, on, Some((true, 2, 20))).1, 1);
        let off = json!({"properties": {"optimizedAutoscale": {"version": 1, "isEnabled": false, "minimum": 2, "maximum": 8}}});
        assert_eq!(of(Some((false, 2, 8)), on, on).0, off);
        // The spec does not say: whatever Azure does.
        assert_eq!((of(None, on, on).0, of(None, None, on).1), (Value::Null, 0));
    }

    #[test]
    fn identities_of_others_stay_and_ours_follow_the_spec() {
        let sku = "Standard_L8as_v3";
        let of = |desired: &[&str], applied: Option<&[&str]>, actual: &[&str]| {
            let applied = applied.map(|applied| state(sku, applied, None));
            let (body, kept, after) = compared(&state(sku, desired, None), applied, &cluster(sku, actual, None));
            (body["identity"].clone(), kept, after.user_assigned_identities.len())
        };
        let both = "SystemAssigned, UserAssigned";
        assert_eq!(of(&[X], Some(&[]), &[]), (json!({"type": both, "userAssignedIdentities": {X: {}}}), 0, 0));
        assert_eq!(of(&[X], Some(&[]), &[Y]), (json!({"type": both, "userAssignedIdentities": {X: {}}}), 0, 0));
        assert_eq!(
            of(&[Y], Some(&[X]), &[X]),
            (json!({"type": both, "userAssignedIdentities": {X: null, Y: {}}}), 0, 1)
        );
        assert_eq!(of(&[], Some(&[X]), &[X]), (json!({"type": "SystemAssigned"}), 0, 1));
        assert_eq!(of(&[X], Some(&[X]), &[]), (Value::Null, 1, 1));
        assert_eq!(of(&[], Some(&[]), &[Y]), (Value::Null, 0, 0));
        assert_eq!(of(&[X], Some(&[X]), &[&X.to_uppercase()]), (Value::Null, 0, 1));
        // A cluster that was there before gets what it is said to need.
        assert_eq!(of(&[X], None, &[Y]).0, json!({"type": both, "userAssignedIdentities": {X: {}}}));
    }

    #[test]
    fn a_wish_that_changes_while_azure_is_at_work_is_no_persons_change() {
        let (a, b) = ("Standard_L8as_v3", "Standard_L16as_v3");
        let (off, on) = (Some((false, 2, 10)), Some((true, 2, 8)));
        // From A to B, and back to A before B was there.
        let (first, second) = (state(a, &[X], off), state(b, &[Y], on));
        let mut applied = first.clone();
        absorb(&second, &mut applied, &cluster(a, &[X], off));
        assert_eq!(applied, first, "nothing of it is there yet");
        absorb(&second, &mut applied, &cluster(b, &[Y], on));
        assert_eq!(applied, second);
        let (body, kept, _) = compared(&first, Some(applied), &cluster(b, &[Y], on));
        assert_eq!((&body["sku"]["name"], kept), (&json!(a), 0));
        assert_eq!(body["identity"]["userAssignedIdentities"], json!({X: {}, Y: null}));
        assert_eq!(body["properties"]["optimizedAutoscale"]["isEnabled"], false);
        // A person's third value is the person's.
        let mut applied = first.clone();
        absorb(&second, &mut applied, &cluster("Standard_L32as_v3", &[X], Some((true, 2, 99))));
        assert_eq!(applied, first);
        let mut known = [database("M", Some("P30D"), true)];
        absorb_databases(&[database("m", Some("P60D"), false)], &mut known, &[there("M", Some("P60D"), "Succeeded")]);
        assert_eq!(known[0].soft_delete_period.as_deref(), Some("P60D"));
    }

    fn database(name: &str, period: Option<&str>, seen: bool) -> AppliedDatabase {
        let soft_delete_period = period.map(str::to_owned);
        let asked = (!seen).then_some(Time(Timestamp::UNIX_EPOCH));
        AppliedDatabase { name: name.to_owned(), soft_delete_period, asked, seen, found: false }
    }

    fn there(name: &str, period: Option<&str>, state: &str) -> Database {
        let value = json!({"name": format!("c/{name}"), "kind": "ReadWrite", "properties": {"softDeletePeriod": period, "provisioningState": state}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn databases_are_made_one_by_one_and_a_persons_retention_stays() {
        let step = |desired: &[AppliedDatabase], applied: &[AppliedDatabase], actual: &[Database]| {
            let (mut applied, mut kept) = (applied.to_vec(), Vec::new());
            let around = Around { now: Timestamp::UNIX_EPOCH, failed: &[], refused: &[], missed: &[] };
            let step = next_database(desired, &mut applied, actual, around, &mut kept);
            (step, applied, kept.len())
        };
        let wanted = database("M", Some("P30D"), false);
        let seen = database("M", Some("P30D"), true);
        let make = DatabaseStep::Write { database: wanted.clone(), is_new: true };
        let (one, known) = (std::slice::from_ref(&wanted), std::slice::from_ref(&seen));
        assert_eq!(step(one, &[], &[]), (make.clone(), vec![], 0));
        assert_eq!(step(one, one, &[]).0, DatabaseStep::NotShown("M".to_owned()));
        assert_eq!(step(one, known, &[]).0, DatabaseStep::Deleted("M".to_owned()));
        assert_eq!(step(one, &[], &[there("M", Some("P30D"), "Creating")]).0, DatabaseStep::Busy("M".to_owned()));
        assert_eq!(
            step(one, one, &[there("m", Some("P30D"), "Succeeded")]),
            (DatabaseStep::Done, vec![seen.clone()], 0)
        );
        assert_eq!(step(one, one, &[there("M", None, "Failed")]).0, make);
        // One that somebody else failed to change is not ours to write.
        assert_eq!(step(one, &[], &[there("M", Some("P30D"), "Failed")]).0, DatabaseStep::Done);
        let next = |around: Around<'_>, applied: &[AppliedDatabase], actual: &[Database]| {
            next_database(one, &mut applied.to_vec(), actual, around, &mut Vec::new())
        };
        let m = ["m".to_owned()];
        let around = Around { now: Timestamp::UNIX_EPOCH, failed: &[], refused: &[], missed: &[] };
        let failed = [there("M", Some("P30D"), "Failed")];
        assert_eq!(next(Around { failed: &m, ..around }, &[], &failed), make);
        assert_eq!(next(Around { refused: &m, ..around }, &[], &[]), DatabaseStep::Done);
        // Partitions that are gone need no database that is; one that comes back does not have it made again.
        let found = |seen: bool| [AppliedDatabase { found: true, ..database("M", None, seen) }];
        let of_found = |missed: &[String], applied: &[AppliedDatabase]| {
            let mut applied = applied.to_vec();
            let step = next_database(&found(false), &mut applied, &[], Around { missed, ..around }, &mut Vec::new());
            (step, applied)
        };
        assert_eq!(of_found(&[], &found(true)), (DatabaseStep::Done, found(true).to_vec()));
        assert_eq!(of_found(&m, &found(true)).0, DatabaseStep::Deleted("M".to_owned()));
        // What Azure accepted is shown within ten minutes, or asked for again.
        assert_eq!(next(Around { now: Timestamp::UNIX_EPOCH + SHOWN_AFTER, ..around }, one, &[]), make);
        // 720 hours are 30 days.
        assert_eq!(
            step(one, known, &[there("M", Some("PT720H"), "Succeeded")]),
            (DatabaseStep::Done, vec![seen.clone()], 0)
        );
        assert_eq!(
            step(one, known, &[there("M", Some("P90D"), "Succeeded")]),
            (DatabaseStep::Done, vec![seen.clone()], 1)
        );
        let longer = database("M", Some("P60D"), false);
        let new = std::slice::from_ref(&longer);
        let change = DatabaseStep::Write { database: longer.clone(), is_new: false };
        assert_eq!(step(new, known, &[there("M", Some("P30D"), "Succeeded")]).0, change);
        // The spec was edited while the database was being made.
        assert_eq!(step(new, one, &[there("M", Some("P30D"), "Succeeded")]).0, change);
        // One that is gone holds up no other.
        let two = [wanted.clone(), database("L", None, false)];
        let (next, applied, _) = step(&two, known, &[]);
        assert_eq!(next, DatabaseStep::Write { database: two[1].clone(), is_new: true });
        assert_eq!(applied, known);
        // What the spec no longer names is forgotten, and stays in Azure.
        assert_eq!(step(&[], known, &[there("M", None, "Succeeded")]), (DatabaseStep::Done, vec![], 0));
    }
}
