//! Whether anything of a namespace was written between two looks, by whomever: all objects of all kinds that the API server has there. I/O: the API server.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::{
    Api, Discovery, ResourceExt as _,
    api::{DynamicObject, ListParams, PartialObjectMeta},
    discovery::{Scope, verbs},
};
use tokio::time;

use super::namespace::{PATIENCE, TestNamespace};

/// Who wrote an object last, by kind and name; leases apart, which are renewed for as long as somebody leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions(BTreeMap<String, Version>);

#[derive(Debug, Clone)]
struct Version {
    uid: String,
    version: String,
    /// `who` and `when`, for people.
    managers: Vec<String>,
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        (&self.uid, &self.version) == (&other.uid, &other.version)
    }
}

impl Eq for Version {}

impl Versions {
    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// What was made, written or removed from this look to the later one.
    pub fn moved(&self, later: &Self) -> Vec<String> {
        let names = self.0.keys().chain(later.0.keys().filter(|name| !self.0.contains_key(*name)));
        let told = names.filter_map(|name| match (self.0.get(name), later.0.get(name)) {
            (Some(before), Some(after)) if before == after => None,
            (Some(before), Some(after)) if before.uid == after.uid => {
                let new = after.managers.iter().filter(|manager| !before.managers.contains(manager));
                Some(format!("{name} was written: {:?}", new.collect::<Vec<_>>()))
            }
            (Some(_), Some(_)) => Some(format!("{name} was made anew")),
            (None, _) => Some(format!("{name} was made")),
            (_, None) => Some(format!("{name} was removed")),
        });
        told.collect()
    }
}

impl TestNamespace {
    /// All objects in the namespace but leases, and the cluster-scoped ones that are made for objects in it.
    ///
    /// # Panics
    /// If they cannot be listed.
    pub async fn versions(&self) -> Versions {
        let discovery = Discovery::new(self.client()).run_aggregated().await.expect("the API server tells its kinds");
        let kinds = discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources);
        let mut all = BTreeMap::new();
        for (resource, capabilities) in kinds.filter(|(_, capabilities)| capabilities.supports_operation(verbs::LIST)) {
            let is_ours = ["ClusterRole", "ClusterRoleBinding"].contains(&resource.kind.as_str());
            let api: Api<DynamicObject> = match capabilities.scope {
                Scope::Namespaced if resource.kind == "Lease" => continue,
                Scope::Namespaced => Api::namespaced_with(self.client(), &self.name, &resource),
                Scope::Cluster if is_ours => Api::all_with(self.client(), &resource),
                Scope::Cluster => continue,
            };
            let list = api.list_metadata(&ListParams::default()).await.expect("the API server lists");
            let here = format!("adx-mon:{}:", self.name);
            for object in list.items.into_iter().filter(|object| !is_ours || object.name_any().starts_with(&here)) {
                all.insert(format!("{} '{}'", resource.kind, object.name_any()), version(&object));
            }
        }
        Versions(all)
    }

    /// Waits until nothing has been written for so long, and says what there is then.
    ///
    /// # Panics
    /// If it never rests: with what moved last.
    pub async fn until_rest(&self, quiet: Duration) -> Versions {
        self.until_rest_apart_from(quiet, |_| false).await
    }

    /// The same, apart from what moves all the time, by what is told of it.
    ///
    /// # Panics
    /// If it never rests: with what moved last.
    pub async fn until_rest_apart_from(&self, quiet: Duration, restless: impl Fn(&str) -> bool) -> Versions {
        let (started, mut before) = (Instant::now(), self.versions().await);
        loop {
            time::sleep(quiet).await;
            let after = self.versions().await;
            let mut moved = before.moved(&after);
            moved.retain(|told| !restless(told));
            if moved.is_empty() {
                return after;
            }
            assert!(started.elapsed() < PATIENCE, "it never rests: {moved:#?}");
            before = after;
        }
    }
}

fn version(object: &PartialObjectMeta<DynamicObject>) -> Version {
    let manager = |entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        let time = entry.time.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
        format!("{} {}", entry.manager.as_deref().unwrap_or_default(), time)
    };
    Version {
        uid: object.uid().unwrap_or_default(),
        version: object.resource_version().unwrap_or_default(),
        managers: object.managed_fields().iter().map(manager).collect(),
    }
}
