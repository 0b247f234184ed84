//! What there is with our labels, by its owner: names and versions alone, as the watches tell of them. No I/O; filled by `watches`, asked when children are applied.
//!
//! What an earlier version called otherwise, or made besides, is found by this alone; and what is still of the version that was looked at needs no other look. Pods are
//! not in it: nothing removes those but their owners.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use kube::api::ApiResource;
use tokio::time::Instant;

use super::{
    apply::Build,
    child::{ChildRef, Kind, Owner},
};

/// An owner by kind, namespace and name.
pub(crate) type OwnerName = (Kind, Option<String>, String);

/// Where one is that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its kind; one for all of them.
    pub(crate) resource: Arc<ApiResource>,
    /// `None`: cluster-scoped.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Place {
    fn is(&self, child: &ChildRef) -> bool {
        *self.resource == child.resource && self.namespace == child.namespace && self.name == child.name
    }
}

/// What the watches show of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing that can be gone by: the watch has not listed all, or told of a failure not long ago.
    Unknown,
    /// Nothing of ours is there.
    Absent,
    /// It is there, in this version.
    At(String),
}

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    /// With the version that each has.
    places: HashMap<OwnerName, Vec<(Place, String)>>,
    /// The kinds of which everything is listed.
    listed: HashSet<String>,
    /// When the watch of a kind failed last.
    failed: HashMap<String, Instant>,
}

/// A watch that failed is tried again within a minute, and goes on where it was. What it could not read it does not tell again: by then nothing is believed of before.
const FAILED: Duration = Duration::from_secs(90);

impl Made {
    /// It is there in this version, and its labels name this owner.
    pub(crate) fn add(&self, owner: &OwnerName, place: Place, version: String) {
        let mut all = self.all();
        let places = all.places.entry(owner.clone()).or_default();
        match places.iter_mut().find(|(known, _)| *known == place) {
            Some((_, known)) => *known = version,
            None => places.push((place, version)),
        }
    }

    /// It is gone, or names another.
    pub(crate) fn remove(&self, owner: &OwnerName, place: &Place) {
        let mut all = self.all();
        let Some(places) = all.places.get_mut(owner) else { return };
        places.retain(|(known, _)| known != place);
        if places.is_empty() {
            all.places.remove(owner);
        }
    }

    /// A list of a kind begins: what is known may be another since.
    pub(crate) fn lists(&self, resource: &ApiResource) {
        self.all().listed.remove(&resource.kind);
    }

    /// All that there is of a kind has been told.
    pub(crate) fn has_listed(&self, resource: &ApiResource) {
        self.all().listed.insert(resource.kind.clone());
    }

    /// The watch of a kind has failed.
    pub(crate) fn failed(&self, resource: &ApiResource) {
        self.all().failed.insert(resource.kind.clone(), Instant::now());
    }

    /// What is seen of a child of an owner.
    pub(crate) fn shown(&self, owner: &Owner, child: &ChildRef) -> Shown {
        let all = self.all();
        let kind = &child.resource.kind;
        if !all.listed.contains(kind) || all.failed.get(kind).is_some_and(|at| at.elapsed() < FAILED) {
            return Shown::Unknown;
        }
        let mut places = all.places.get(&name_of(owner)).into_iter().flatten();
        places.find(|(place, _)| place.is(child)).map_or(Shown::Absent, |(_, version)| Shown::At(version.clone()))
    }

    /// What there is for an owner that a build neither makes nor names.
    pub(crate) fn besides(&self, owner: &Owner, build: &Build) -> Vec<ChildRef> {
        let all = self.all();
        let places = all.places.get(&name_of(owner)).into_iter().flatten().map(|(place, _)| place);
        let made = || build.supports.iter().chain(&build.workload).map(|child| &child.reference);
        let others = places.filter(|place| !made().chain(&build.unwanted).any(|child| place.is(child)));
        let reference = |place: &Place| ChildRef {
            resource: (*place.resource).clone(),
            namespace: place.namespace.clone(),
            name: place.name.clone(),
        };
        others.map(reference).collect()
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

fn name_of(owner: &Owner) -> OwnerName {
    (owner.kind, Some(owner.namespace.clone()), owner.name.clone())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Service};
    use serde_json::json;
    use tokio::time;

    use super::*;
    use crate::kubernetes::child::Child;

    fn owner(name: &str) -> Owner {
        let text = str::to_owned;
        Owner { kind: Kind::Collector, name: text(name), namespace: text("ns"), uid: text("1") }
    }

    fn place(name: &str) -> Place {
        let (namespace, name) = (Some("ns".to_owned()), name.to_owned());
        Place { resource: Arc::new(ApiResource::erase::<ConfigMap>(&())), namespace, name }
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_is_shown_in_its_last_version_where_everything_of_its_kind_is_seen() {
        let (owner, made) = (owner("c"), Made::default());
        let child = ChildRef::in_namespace::<ConfigMap>(&owner, "map");
        made.add(&name_of(&owner), place("map"), "7".to_owned());
        assert_eq!(made.shown(&owner, &child), Shown::Unknown, "the list has not ended");
        made.has_listed(&child.resource);
        assert_eq!(made.shown(&owner, &child), Shown::At("7".to_owned()));
        made.add(&name_of(&owner), place("map"), "8".to_owned());
        assert_eq!(made.shown(&owner, &child), Shown::At("8".to_owned()));
        let other = ChildRef::in_namespace::<ConfigMap>(&owner, "other");
        assert_eq!(made.shown(&owner, &other), Shown::Absent);
        let service = ChildRef::in_namespace::<Service>(&owner, "map");
        assert_eq!(made.shown(&owner, &service), Shown::Unknown, "of another kind");
        made.failed(&child.resource);
        assert_eq!(made.shown(&owner, &child), Shown::Unknown, "the watch broke off");
        time::advance(FAILED).await;
        assert_eq!(made.shown(&owner, &child), Shown::At("8".to_owned()));
        made.lists(&child.resource);
        assert_eq!(made.shown(&owner, &child), Shown::Unknown, "it is listed anew");
        made.has_listed(&child.resource);
        made.remove(&name_of(&owner), &place("map"));
        assert_eq!(made.shown(&owner, &child), Shown::Absent);
    }

    #[test]
    fn what_a_build_neither_makes_nor_names_is_besides() {
        let (owner, others) = (owner("c"), owner("d"));
        let text = str::to_owned;
        let made = Made::default();
        for known in ["made", "named", "earlier", "gone"] {
            made.add(&name_of(&owner), place(known), text("1"));
            made.add(&name_of(&owner), place(known), text("2"));
        }
        made.remove(&name_of(&owner), &place("gone"));
        made.remove(&name_of(&owner), &place("never"));
        made.add(&name_of(&others), place("others"), text("1"));
        let build = Build {
            // Of another kind, the name is another's.
            supports: vec![
                Child::namespaced::<ConfigMap>(&owner, "made", json!({})),
                Child::namespaced::<Service>(&owner, "earlier", json!({})),
            ],
            unwanted: vec![ChildRef::in_namespace::<ConfigMap>(&owner, "named")],
            ..Build::default()
        };
        let besides: Vec<String> = made.besides(&owner, &build).iter().map(ToString::to_string).collect();
        assert_eq!(besides, ["ConfigMap 'earlier'"]);
    }
}
