//! What there is with our labels, by its owner: names alone, as the watches tell of them. No I/O; filled by `watches`, asked when children are applied.
//!
//! What an earlier version called otherwise, or made besides, is found by this alone. Pods are not in it: nothing removes those but their owners.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use kube::api::ApiResource;

use super::{
    apply::Build,
    child::{ChildRef, Kind, Owner},
};

/// An owner by kind, namespace and name.
pub(crate) type OwnerName = (Kind, Option<String>, String);

/// One that was made.
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

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made(Arc<Mutex<HashMap<OwnerName, Vec<Place>>>>);

impl Made {
    /// It is there, and its labels name this owner.
    pub(crate) fn add(&self, owner: &OwnerName, place: Place) {
        let mut all = self.all();
        let places = all.entry(owner.clone()).or_default();
        if !places.contains(&place) {
            places.push(place);
        }
    }

    /// It is gone, or names another.
    pub(crate) fn remove(&self, owner: &OwnerName, place: &Place) {
        let mut all = self.all();
        let Some(places) = all.get_mut(owner) else { return };
        places.retain(|known| known != place);
        if places.is_empty() {
            all.remove(owner);
        }
    }

    /// What there is for an owner that a build neither makes nor names.
    pub(crate) fn besides(&self, owner: &Owner, build: &Build) -> Vec<ChildRef> {
        let name = (owner.kind, Some(owner.namespace.clone()), owner.name.clone());
        let all = self.all();
        let places = all.get(&name).into_iter().flatten();
        let made = || build.supports.iter().chain(&build.workload).map(|child| &child.reference);
        let others = places.filter(|place| !made().chain(&build.unwanted).any(|child| place.is(child)));
        let reference = |place: &Place| ChildRef {
            resource: (*place.resource).clone(),
            namespace: place.namespace.clone(),
            name: place.name.clone(),
        };
        others.map(reference).collect()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<OwnerName, Vec<Place>>> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Service};
    use serde_json::json;

    use super::*;
    use crate::kubernetes::child::Child;

    #[test]
    fn what_a_build_neither_makes_nor_names_is_besides() {
        let text = str::to_owned;
        let owner = Owner { kind: Kind::Collector, name: text("c"), namespace: text("ns"), uid: text("1") };
        let name = |owner: &str| (Kind::Collector, Some(text("ns")), text(owner));
        let resource = Arc::new(ApiResource::erase::<ConfigMap>(&()));
        let place =
            |name: &str| Place { resource: Arc::clone(&resource), namespace: Some(text("ns")), name: text(name) };
        let made = Made::default();
        for known in ["made", "named", "earlier", "gone"] {
            made.add(&name("c"), place(known));
            made.add(&name("c"), place(known));
        }
        made.remove(&name("c"), &place("gone"));
        made.remove(&name("c"), &place("never"));
        made.add(&name("d"), place("others"));
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
