//! Makes the cluster hold the children that an owner should have, and no others of its own. I/O: the API server.
//!
//! Everything is looked at before anything is written, but for what was as it should be and has not changed since, as the watches show: what a person made under a name of
//! ours stops all writing for that owner. What a person makes after that look is not written to either. Nothing is sent for a child that is as it should be, or as admission
//! makes of it whatever is sent.

mod fixed;
mod known;
mod room;

use futures::future;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions, ValidationDirective},
};
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) use self::known::Known;
use self::{
    fixed::fixed,
    room::{give_up, make_room},
};
use super::{
    child::{APPLIED, Child, ChildRef, FIELD_MANAGER, Owner, is_applied_by_us},
    compare::{Difference, differences},
    made::Made,
    reason::Reason,
};

/// What an owner should have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Build {
    /// What the workload needs.
    pub(crate) supports: Vec<Child>,
    /// Written last: its pods need the rest.
    pub(crate) workload: Option<Child>,
    /// What may be there from before and must go.
    pub(crate) unwanted: Vec<ChildRef>,
}

/// What was done, be it all of it or not.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// The workload as it is now.
    pub(crate) workload: Option<DynamicObject>,
    /// Children that were made, changed or removed.
    pub(crate) changed: usize,
    /// Children that were not there.
    pub(crate) created: Vec<ChildRef>,
    /// Whether all of them had been there before, as the workload's mark tells: an earlier version may have had fewer. `None`: the workload is not there either.
    pub(crate) was_whole: Option<bool>,
    /// Children that others had changed, with the first places; each child once.
    pub(crate) drift: Vec<(ChildRef, Vec<String>)>,
    /// Children that are not as they were just applied, with each of the first places: something changes them on their way in.
    pub(crate) overruled: Vec<(ChildRef, String)>,
    /// Children that were made anew, with what cannot be changed in place.
    pub(crate) replaced: Vec<(ChildRef, &'static str)>,
    /// What an earlier version made besides and a person has to remove.
    pub(crate) left: Vec<ChildRef>,
    /// What was known before, and what is now.
    pub(crate) known: Known,
}

/// So many places of a child are told of that somebody changed, and so many of which admission makes something else.
const MOST_TOLD: usize = 8;

impl Applied {
    /// A child is there that was not.
    fn made(&mut self, child: &Child, made: &DynamicObject, now: Instant) {
        self.changed += 1;
        let reference = child.reference.clone();
        match self.known.made(&reference) {
            Some(path) => self.replaced.push((reference, path)),
            None => self.created.push(reference),
        }
        if self.answered(child, made, now).is_empty() {
            self.known.fits(child, lasting_version(made), now);
        }
    }

    /// What the API server answered to a write: where that is something else, it is made so on its way in, be it in the mark itself.
    fn answered(&mut self, child: &Child, answer: &DynamicObject, now: Instant) -> Vec<Difference> {
        let there = serde_json::to_value(answer).expect("an object is JSON");
        let there = differences(&child.content, &there);
        self.known.answered(child, &there, now);
        let told = there.iter().take(MOST_TOLD);
        self.overruled.extend(told.map(|difference| (child.reference.clone(), difference.path.clone())));
        there
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// An object of that name is somebody else's.
    #[error("the {child} exists and was not made by this operator: rename or delete it")]
    Conflict {
        /// Which.
        child: String,
    },
    /// An object of that name is there for another object of ours.
    #[error("the {child} exists for {other}: give one of the two another name")]
    Taken {
        /// Which.
        child: String,
        /// For which.
        other: String,
    },
    /// An object of that name is about to go.
    #[error("the {child} is still being deleted")]
    Dying {
        /// Which.
        child: String,
    },
    /// An object of that name is an earlier owner's.
    #[error("the {child} is of an earlier object of this name: Kubernetes is about to remove it")]
    OfEarlier {
        /// Which.
        child: String,
    },
    /// It has to be another in a field that nobody can change.
    #[error(
        "{path} of the {child} has to be another and cannot be changed in place: delete that object, and it is made anew"
    )]
    Immutable {
        /// Which.
        child: String,
        /// The field.
        path: &'static str,
    },
    /// The API server refused, or could not be asked.
    #[error("failed to {action} the {child}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// With which.
        child: String,
        /// Why it failed.
        source: kube::Error,
    },
}

impl ApplyError {
    /// The reason of a condition.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Conflict { .. } | Self::Taken { .. } => Reason::Conflict,
            Self::Dying { .. } | Self::OfEarlier { .. } => Reason::WaitingForDeletion,
            Self::Immutable { .. } => Reason::Immutable,
            Self::Api { .. } => Reason::ApplyFailed,
        }
    }
}

fn api_error(action: &'static str, child: &ChildRef) -> impl FnOnce(kube::Error) -> ApplyError {
    move |source| ApplyError::Api { action, child: child.to_string(), source }
}

/// One look at a child.
struct Look {
    child: Child,
    live: Option<DynamicObject>,
    /// When it began.
    at: Instant,
}

/// What has to be written for a child.
enum Need {
    Nothing,
    /// Nothing either: it is what admission makes of it.
    Rest,
    Create,
    /// `there`: where it is something else. `is_marked`: whether it was applied as it is to be, so that somebody else has changed it since.
    Update {
        there: Vec<Difference>,
        is_marked: bool,
    },
}

impl Look {
    /// Compares. `spec.replicas` of what others scale is taken over from what is there, and begins with the fewest.
    fn need(&mut self, known: &Known, now: Instant) -> Need {
        let Some(live) = &self.live else {
            if let Some(fewest) = self.child.scaled_from {
                self.child.content["spec"]["replicas"] = fewest.into();
            }
            return Need::Create;
        };
        let live = serde_json::to_value(live).expect("an object is JSON");
        if let Some(fewest) = self.child.scaled_from {
            let present = live["spec"]["replicas"].as_i64().unwrap_or(0);
            self.child.content["spec"]["replicas"] = present.max(i64::from(fewest)).into();
        }
        let there = differences(&self.child.content, &live);
        if there.is_empty() {
            Need::Nothing
        } else if known.rests(&self.child, &there, now) {
            Need::Rest
        } else {
            Need::Update { there, is_marked: self.is_marked(known) == Some(true) }
        }
    }

    /// Whether what is there has the mark of what is to be, or had it until admission took it away; `None` if nothing is there.
    fn is_marked(&self, known: &Known) -> Option<bool> {
        let live = self.live.as_ref()?.metadata.annotations.as_ref().and_then(|annotations| annotations.get(APPLIED));
        Some(live.is_some_and(|mark| mark == self.child.mark()) || known.is_overruled(&self.child))
    }
}

/// Brings the cluster to what `build` says. `made`: what the watches show. `applied` is told of each child that is written, also where a later one cannot be.
///
/// # Errors
/// [`ApplyError`]: the first thing that stood in the way.
pub(crate) async fn apply(
    client: &Client,
    owner: &Owner,
    build: Build,
    made: &Made,
    applied: &mut Applied,
) -> Result<(), ApplyError> {
    let now = Instant::now();
    let besides = made.besides(owner, &build);
    let Build { mut supports, workload, mut unwanted } = build;
    let workload = workload.map(|workload| workload.beside(&supports));
    let wanted = supports.iter().chain(&workload).map(|child| child.reference.to_string()).collect();
    applied.known.retain(&wanted, &unwanted.iter().map(ToString::to_string).collect());
    // What its pods do is told of the workload as it is now: that is read each time.
    supports.retain(|child| !applied.known.still_fits(child, &made.shown(owner, &child.reference), now));
    unwanted.retain(|child| !applied.known.is_still_gone(child, &made.shown(owner, child), now));
    let count = supports.len();
    let looks = future::try_join_all(supports.into_iter().chain(workload).map(|child| look(client, owner, child)));
    let others = unwanted.iter().map(|child| (child, false)).chain(besides.iter().map(|child| (child, true)));
    let others = future::try_join_all(others.map(|(child, is_found)| look_at_unwanted(client, owner, child, is_found)));
    let (mut looks, others) = future::try_join(looks, others).await?;
    for (child, _) in unwanted.iter().zip(&others).filter(|(_, found)| found.is_none()) {
        applied.known.gone(child, now);
    }
    let workload = looks.split_off(count).pop();
    applied.was_whole = workload.as_ref().and_then(|workload| workload.is_marked(&applied.known));
    // One after the other: a binding is refused while its role is not there.
    for look in looks {
        write(client, owner, look, applied).await?;
    }
    if let Some(workload) = workload {
        applied.workload = write(client, owner, workload, applied).await?;
    }
    for (child, uid) in others.into_iter().flatten() {
        // Its pods may keep something, or have peers that know it.
        if child.resource.kind == "StatefulSet" {
            applied.left.push(child.clone());
            continue;
        }
        // Wanted again, it is not there, whatever a watch shows that is behind.
        applied.known.forget(child);
        remove(client, child, uid).await?;
        applied.changed += 1;
    }
    Ok(())
}

async fn look(client: &Client, owner: &Owner, child: Child) -> Result<Look, ApplyError> {
    let at = Instant::now();
    let live = get(client, &child.reference).await?;
    if let Some(live) = &live {
        let child = || child.reference.to_string();
        if live.metadata.deletion_timestamp.is_some() {
            return Err(ApplyError::Dying { child: child() });
        }
        if !owner.owns(live) {
            let child = child();
            return Err(match Owner::is_made_for(live) {
                Some(_) if owner.succeeds_owner_of(live) => ApplyError::OfEarlier { child },
                Some(other) => ApplyError::Taken { child, other },
                None => ApplyError::Conflict { child },
            });
        }
    }
    Ok(Look { child, live, at })
}

/// What is not ours is not unwanted. `is_found`: only its labels tell of it.
async fn look_at_unwanted<'a>(
    client: &Client,
    owner: &Owner,
    child: &'a ChildRef,
    is_found: bool,
) -> Result<Option<(&'a ChildRef, Option<String>)>, ApplyError> {
    let live = get(client, child).await?.filter(|live| is_unwanted(owner, live, is_found));
    Ok(live.map(|live| (child, live.metadata.uid)))
}

/// Whether it is ours to remove. Of what only labels tell it is what the operator has applied, in an earlier version: a person may have made a copy.
fn is_unwanted(owner: &Owner, live: &DynamicObject, is_found: bool) -> bool {
    owner.owns(live)
        && live.metadata.deletion_timestamp.is_none()
        && (!is_found || (owner.is_named_on(live) && is_applied_by_us(&live.metadata)))
}

/// The arguments of a workload of the owner's own; `None` where there is none.
///
/// # Errors
/// [`ApplyError::Api`]
pub(crate) async fn running(
    client: &Client,
    owner: &Owner,
    workload: &ChildRef,
) -> Result<Option<Vec<String>>, ApplyError> {
    let live = get(client, workload).await?.filter(|live| owner.owns(live));
    let arguments = |live: DynamicObject| {
        let arguments = live.data.pointer("/spec/template/spec/containers")?.as_array()?.iter();
        // Beside containers that were injected.
        let own = arguments.filter(|container| container["name"] == owner.kind.component());
        let texts = own.filter_map(|container| container["args"].as_array()).flatten();
        Some(texts.filter_map(|argument| argument.as_str().map(str::to_owned)).collect())
    };
    Ok(live.and_then(arguments))
}

async fn get(client: &Client, child: &ChildRef) -> Result<Option<DynamicObject>, ApplyError> {
    child.api(client).get_opt(&child.name).await.map_err(api_error("read", child))
}

/// Writes what a look asks for; the object then. Where somebody has written, made or removed the object since, a second look decides, and no third.
async fn write(
    client: &Client,
    owner: &Owner,
    mut look: Look,
    applied: &mut Applied,
) -> Result<Option<DynamicObject>, ApplyError> {
    let tried = try_write(client, owner, &mut look, applied).await;
    match tried {
        // What there is may be ours all the same: the answer to the request that made it was lost, or its controller wrote its status.
        Err(ApplyError::Api { source: kube::Error::Api(status), .. }) if status.code == 409 => {
            let mut newer = self::look(client, owner, look.child).await?;
            try_write(client, owner, &mut newer, applied).await
        }
        tried => tried,
    }
}

async fn try_write(
    client: &Client,
    owner: &Owner,
    look: &mut Look,
    applied: &mut Applied,
) -> Result<Option<DynamicObject>, ApplyError> {
    let now = Instant::now();
    let need = look.need(&applied.known, now);
    let Look { child, live, at } = look;
    let (child, live, at) = (&*child, live.take(), *at);
    let reference = &child.reference;
    let api = reference.api(client);
    // Strict: a field that the kind does not have would be dropped without a word, and be missing in every comparison.
    let params =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(FIELD_MANAGER) };
    match need {
        Need::Nothing => {
            let version = live.as_ref().and_then(lasting_version);
            let left = leave(&api, reference, live).await?;
            applied.known.fits(child, version, at);
            Ok(left)
        }
        Need::Rest => leave(&api, reference, live).await,
        Need::Create => {
            let made = api.patch(&reference.name, &params, &Patch::Apply(&as_new(child))).await;
            let made = made.map_err(api_error("create", reference))?;
            tracing::info!(owner = owner.name, namespace = owner.namespace, child = %reference, "created");
            applied.made(child, &made, now);
            Ok(Some(made))
        }
        Need::Update { there, is_marked } => {
            let live = live.unwrap_or_else(|| DynamicObject::new(&reference.name, &reference.resource));
            let forced = params.clone().force();
            let changed = match api.patch(&reference.name, &forced, &Patch::Apply(&as_seen(child, &live))).await {
                Err(kube::Error::Api(status)) if status.code == 422 => {
                    let there = serde_json::to_value(&live).expect("an object is JSON");
                    match fixed(&child.content, &there) {
                        Some(fixed) if fixed.is_replaceable && is_applied_by_us(&live.metadata) => {
                            let uid = live.metadata.uid;
                            return replace(client, owner, child, uid, fixed.path, &params, applied).await.map(Some);
                        }
                        Some(fixed) => {
                            return Err(ApplyError::Immutable { child: reference.to_string(), path: fixed.path });
                        }
                        None => beside_others(&api, child, &live, &forced).await,
                    }
                }
                changed => changed,
            };
            let changed = changed.map_err(api_error("update", reference))?;
            let is_theirs = |place: &&Difference| is_marked && !applied.known.is_overruled_at(child, &place.path);
            let theirs: Vec<_> = there.iter().filter(is_theirs).collect();
            let still = applied.answered(child, &changed, now);
            let is_put_back = |place: &&Difference| still.iter().all(|still| still.path != place.path);
            let drift = theirs.into_iter().filter(is_put_back).take(MOST_TOLD);
            let drift: Vec<String> = drift.map(|place| place.path.clone()).collect();
            if is_marked && !there.iter().any(|place| is_put_back(&place)) {
                let path = still.first().map(|place| place.path.as_str());
                tracing::warn!(owner = owner.name, namespace = owner.namespace, child = %reference, path, "overruled");
            } else {
                let paths = (!drift.is_empty()).then(|| drift.join(", "));
                let paths = paths.as_deref();
                tracing::info!(owner = owner.name, namespace = owner.namespace, child = %reference, drift = paths, "updated");
                applied.changed += 1;
                if !drift.is_empty() {
                    applied.drift.push((reference.clone(), drift));
                }
            }
            let version = lasting_version(&changed);
            let left = leave(&api, reference, Some(changed)).await?;
            // What was written to leave it may have met what somebody has written since.
            if still.is_empty() {
                applied.known.fits(child, version, now);
            }
            Ok(left)
        }
    }
}

/// The version of an object that is not about to go.
fn lasting_version(object: &DynamicObject) -> Option<String> {
    let ObjectMeta { deletion_timestamp, resource_version, .. } = &object.metadata;
    resource_version.clone().filter(|_| deletion_timestamp.is_none())
}

/// Leaves an object as it is, but for what made room in it, which an operator that died in between may have left.
async fn leave(
    api: &Api<DynamicObject>,
    child: &ChildRef,
    live: Option<DynamicObject>,
) -> Result<Option<DynamicObject>, ApplyError> {
    let Some(live) = live else { return Ok(None) };
    give_up(api, live).await.map(Some).map_err(api_error("update", child))
}

/// Applies once there is room for ours.
async fn beside_others(
    api: &Api<DynamicObject>,
    child: &Child,
    live: &DynamicObject,
    params: &PatchParams,
) -> Result<DynamicObject, kube::Error> {
    let live = make_room(api, &child.content, live).await?;
    api.patch(&child.reference.name, params, &Patch::Apply(&as_seen(child, &live))).await
}

/// Puts ours in the place of what we made before, with which nothing is lost: its pods go, and others come.
async fn replace(
    client: &Client,
    owner: &Owner,
    child: &Child,
    uid: Option<String>,
    path: &'static str,
    params: &PatchParams,
    applied: &mut Applied,
) -> Result<DynamicObject, ApplyError> {
    let reference = &child.reference;
    // A refusal that hides behind the other one must not be found out when there is nothing any more.
    let (trial, dry_run) = (format!("{}-new", reference.name), PatchParams { dry_run: true, ..params.clone() });
    let mut content = as_new(child);
    content["metadata"]["name"] = json!(trial);
    let tried = reference.api(client).patch(&trial, &dry_run, &Patch::Apply(&content)).await;
    tried.map_err(api_error("create", reference))?;
    // Whoever makes it then, in another look, knows that nobody else has deleted it.
    applied.known.remove(reference, path);
    remove(client, reference, uid).await?;
    // Something of somebody else's may keep it for a while: that is a conflict, and the next look tells of it.
    let made = reference.api(client).patch(&reference.name, params, &Patch::Apply(&as_new(child))).await;
    let made = made.map_err(api_error("create", reference))?;
    tracing::info!(owner = owner.name, namespace = owner.namespace, child = %reference, path, "made anew");
    applied.made(child, &made, Instant::now());
    Ok(made)
}

/// The version of no object: etcd counts from one before anything is stored, so that the first object has the second.
const NO_VERSION: &str = "1";

/// What to apply where nothing is. To what is there the API server takes no change that is meant for another version; without one it would take ours beside what
/// somebody else has in it.
fn as_new(child: &Child) -> Value {
    let mut content = child.content.clone();
    content["metadata"]["resourceVersion"] = json!(NO_VERSION);
    content
}

/// What to apply to the very object that was looked at; and where a number of replicas was taken over, as it was then.
fn as_seen(child: &Child, live: &DynamicObject) -> Value {
    let mut content = child.content.clone();
    content["metadata"]["uid"] = json!(live.metadata.uid);
    if child.scaled_from.is_some() {
        content["metadata"]["resourceVersion"] = json!(live.metadata.resource_version);
    }
    content
}

async fn remove(client: &Client, child: &ChildRef, uid: Option<String>) -> Result<(), ApplyError> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        propagation_policy: Some(kube::api::PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    match child.api(client).delete(&child.name, &params).await {
        Ok(_) => {
            tracing::info!(%child, "removed");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(api_error("remove", child)(error)),
    }
}

/// Removes the owner's cluster-scoped children, which nothing collects; `children` has one of each kind that there may be. Those that an earlier version called otherwise
/// have the owner's labels, as the others have unless somebody took them away.
///
/// # Errors
/// [`ApplyError::Api`]
pub(crate) async fn clean_up(client: &Client, owner: &Owner, children: &[ChildRef]) -> Result<(), ApplyError> {
    for child in children {
        if let Some((child, uid)) = look_at_unwanted(client, owner, child, false).await? {
            remove(client, child, uid).await?;
        }
        let like = ListParams::default().labels(&owner.selects_in_cluster());
        let listed = child.api(client).list(&like).await.map_err(api_error("list others of the owner of", child))?;
        for other in listed.items {
            if is_unwanted(owner, &other, true) {
                let reference = ChildRef { name: other.name_any(), ..child.clone() };
                remove(client, &reference, other.metadata.uid).await?;
            }
        }
    }
    Ok(())
}

/// Sets our finalizer, beside those of others.
///
/// # Errors
/// [`ApplyError::Api`]
pub(crate) async fn set_finalizer(client: &Client, owner: &Owner, reference: &ChildRef) -> Result<(), ApplyError> {
    let content = json!({
        "apiVersion": reference.resource.api_version,
        "kind": reference.resource.kind,
        "metadata": {"name": reference.name, "uid": owner.uid, "finalizers": [FINALIZER]},
    });
    let params = PatchParams::apply(FINALIZER_MANAGER).force();
    let set = reference.api(client).patch(&reference.name, &params, &Patch::Apply(&content)).await;
    set.map(drop).map_err(api_error("set the finalizer of", reference))
}

/// Takes away our finalizer, and nobody else's, of an owner as it was seen. False if it is not as it was seen any more. Not by server-side apply, which takes away what
/// its field manager has set: the API server may not remember who set it, and applies nothing to an object with a value of a wrong type.
///
/// # Errors
/// [`ApplyError::Api`]
pub(crate) async fn take_finalizer(
    client: &Client,
    reference: &ChildRef,
    seen: &ObjectMeta,
) -> Result<bool, ApplyError> {
    let others: Vec<&String> = seen.finalizers.iter().flatten().filter(|finalizer| *finalizer != FINALIZER).collect();
    let (uid, version) = (&seen.uid, &seen.resource_version);
    let content = json!({"metadata": {"uid": uid, "resourceVersion": version, "finalizers": others}});
    let params = PatchParams { field_manager: Some(FINALIZER_MANAGER.to_owned()), ..PatchParams::default() };
    match reference.api(client).patch(&reference.name, &params, &Patch::Merge(&content)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(api_error("take the finalizer of", reference)(error)),
    }
}

/// Keeps an owner until its cluster-scoped children are gone.
pub(crate) const FINALIZER: &str = "adx-mon.azure.com/cluster-rbac";
const FINALIZER_MANAGER: &str = "adx-federation-operator-finalizer";
