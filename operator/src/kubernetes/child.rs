//! Objects that the operator makes, whatever their kind: how they are named, marked as ours and told apart. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
    core::{ClusterResourceScope, NamespaceResourceScope},
};
use serde_json::{Value, json};
use shared::document::fingerprint;

/// Who made it.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "adx-federation");
/// What it is: [`Kind::component`].
pub(crate) const COMPONENT: &str = "app.kubernetes.io/name";
/// The name of the object that it is made for.
pub(crate) const INSTANCE: &str = "app.kubernetes.io/instance";
/// The namespace of the object that it is made for; on cluster-scoped objects, which cannot have it as their owner.
pub(crate) const NAMESPACE: &str = "adx-mon.azure.com/namespace";
/// A hash of what we applied last: with another one, fields that are no longer wanted may be left.
pub(crate) const APPLIED: &str = "adx-mon.azure.com/applied";

/// The field manager of all that the operator writes.
pub(crate) const FIELD_MANAGER: &str = "adx-federation-operator";

/// The kinds that we reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    AdxCluster,
    Ingestor,
    Collector,
    Alerter,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::AdxCluster, Self::Ingestor, Self::Collector, Self::Alerter];

    /// The kind's name, also as a label of metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AdxCluster => "ADXCluster",
            Self::Ingestor => "Ingestor",
            Self::Collector => "Collector",
            Self::Alerter => "Alerter",
        }
    }

    /// What is made for it, as the label [`COMPONENT`].
    pub(crate) const fn component(self) -> &'static str {
        match self {
            Self::AdxCluster => "federation-agent",
            Self::Ingestor => "ingestor",
            Self::Collector => "collector",
            Self::Alerter => "alerter",
        }
    }
}

/// The object that children are made for.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
}

impl Owner {
    /// An object of ours, by what every object has.
    pub(crate) fn of(kind: Kind, metadata: &ObjectMeta) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self { kind, name: text(&metadata.name), namespace: text(&metadata.namespace), uid: text(&metadata.uid) }
    }

    /// The labels of its children.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
        labels
    }

    /// The labels that tell its pods from all others. Never changes: selectors of workloads cannot.
    pub(crate) fn selector(&self) -> BTreeMap<String, String> {
        [(COMPONENT, self.kind.component()), (INSTANCE, self.name.as_str())]
            .map(|(label, value)| (label.to_owned(), value.to_owned()))
            .into()
    }

    /// A label selector of its cluster-scoped children.
    pub(crate) fn selects_in_cluster(&self) -> String {
        let mut labels = self.labels();
        labels.insert(NAMESPACE.to_owned(), self.namespace.clone());
        labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",")
    }

    fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: self.kind.as_str().to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// Whether an object was made for this very owner, not for one of its name that is gone. Labels do not decide: anyone may change them.
    pub(crate) fn owns(&self, object: &DynamicObject) -> bool {
        let owners = object.metadata.owner_references.iter().flatten().collect::<Vec<_>>();
        match (&object.metadata.namespace, &owners[..]) {
            // Cluster-scoped names of ours hold the namespace and the name of their owner; somebody's own object of that name was not applied by us.
            (None, _) | (Some(_), []) => is_applied_by_us(&object.metadata),
            (Some(_), owners) => owners.iter().any(|owner| owner.uid == self.uid),
        }
    }

    /// Whether an object's labels say that it was made for an owner of this kind and name.
    pub(crate) fn is_named_on(&self, object: &DynamicObject) -> bool {
        let labels = object.metadata.labels.as_ref();
        let has = |label: &str, value: &str| labels.and_then(|labels| labels.get(label)).is_some_and(|is| is == value);
        self.labels().iter().all(|(label, value)| has(label, value))
            && (object.metadata.namespace.is_some() || has(NAMESPACE, &self.namespace))
    }

    /// For which other object of ours an object was made: `ADXCluster 'hub'`.
    pub(crate) fn is_made_for(object: &DynamicObject) -> Option<String> {
        let owner = object.metadata.owner_references.iter().flatten().find(|owner| owner.api_version == API_VERSION)?;
        is_applied_by_us(&object.metadata).then(|| format!("{} '{}'", owner.kind, owner.name))
    }

    /// Whether an object was made for an earlier owner of this name, with which Kubernetes removes it.
    pub(crate) fn succeeds_owner_of(&self, object: &DynamicObject) -> bool {
        let is_earlier = |owner: &OwnerReference| {
            let is_of_ours = owner.api_version == API_VERSION && owner.kind == self.kind.as_str();
            is_of_ours && owner.name == self.name && owner.uid != self.uid
        };
        is_applied_by_us(&object.metadata) && object.metadata.owner_references.iter().flatten().any(is_earlier)
    }
}

/// Of all kinds that we reconcile.
const API_VERSION: &str = "adx-mon.azure.com/v1";

/// Whether an object has fields that this operator applied.
pub(crate) fn is_applied_by_us(metadata: &ObjectMeta) -> bool {
    let entries = metadata.managed_fields.iter().flatten();
    entries.into_iter().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.is_none()
    })
}

/// Which object.
#[derive(Debug, Clone)]
pub(crate) struct ChildRef {
    pub(crate) resource: ApiResource,
    /// `None`: cluster-scoped.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl ChildRef {
    pub(crate) fn api(&self, client: &Client) -> Api<DynamicObject> {
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &self.resource),
            None => Api::all_with(client.clone(), &self.resource),
        }
    }

    /// An object of a namespaced kind.
    pub(crate) fn in_namespace<K>(owner: &Owner, name: &str) -> Self
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let resource = ApiResource::erase::<K>(&());
        Self { resource, namespace: Some(owner.namespace.clone()), name: name.to_owned() }
    }

    /// An object of a cluster-scoped kind.
    pub(crate) fn in_cluster<K>(name: &str) -> Self
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>,
    {
        Self { resource: ApiResource::erase::<K>(&()), namespace: None, name: name.to_owned() }
    }
}

impl std::fmt::Display for ChildRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} '{}'", self.resource.kind, self.name)
    }
}

/// An object that is to be, marked as ours.
#[derive(Debug, Clone)]
pub(crate) struct Child {
    pub(crate) reference: ChildRef,
    pub(crate) content: Value,
    /// The fewest replicas, where an autoscaler decides on their number and the content has none.
    pub(crate) scaled_from: Option<i32>,
}

impl Child {
    /// Of a namespaced kind: owned by its owner, so that it is collected with it.
    pub(crate) fn namespaced<K>(owner: &Owner, name: &str, content: Value) -> Self
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let reference = ChildRef::in_namespace::<K>(owner, name);
        let metadata = json!({
            "name": name,
            "namespace": owner.namespace,
            "labels": owner.labels(),
            "ownerReferences": [owner.reference()],
        });
        Self::marked(reference, metadata, content)
    }

    /// Of a cluster-scoped kind: found again by its labels, and removed by the owner's finalizer.
    pub(crate) fn cluster<K>(owner: &Owner, name: &str, content: Value) -> Self
    where
        K: Resource<DynamicType = (), Scope = ClusterResourceScope>,
    {
        let mut labels = owner.labels();
        labels.insert(NAMESPACE.to_owned(), owner.namespace.clone());
        Self::marked(ChildRef::in_cluster::<K>(name), json!({"name": name, "labels": labels}), content)
    }

    /// `content` is the object without what is the same for all; annotations may be there. The API server refuses fields that its kind does not have.
    fn marked(reference: ChildRef, mut metadata: Value, mut content: Value) -> Self {
        if let Some(annotations) = content.pointer_mut("/metadata/annotations") {
            metadata["annotations"] = annotations.take();
        }
        content["metadata"] = metadata;
        content["apiVersion"] = reference.resource.api_version.clone().into();
        content["kind"] = reference.resource.kind.clone().into();
        content["metadata"]["annotations"][APPLIED] = fingerprint(&content.to_string()).into();
        Self { reference, content, scaled_from: None }
    }

    /// A hash of all that is applied.
    pub(crate) fn mark(&self) -> &str {
        self.content["metadata"]["annotations"][APPLIED].as_str().unwrap_or_default()
    }

    /// The same, with `spec.replicas` left to an autoscaler, which scales nothing up from zero.
    pub(crate) fn scaled_by_others(mut self, fewest: i32) -> Self {
        self.scaled_from = Some(fewest);
        // Another bound is a change of ours.
        let mark = &mut self.content["metadata"]["annotations"][APPLIED];
        *mark = fingerprint(&format!("{mark} from {fewest}")).into();
        self
    }

    /// The same, marked with what is to be there when it is written: one that is there with this mark was written when all of that was.
    pub(crate) fn beside(mut self, others: &[Self]) -> Self {
        let others: Vec<String> = others.iter().map(|other| other.reference.to_string()).collect();
        let mark = &mut self.content["metadata"]["annotations"][APPLIED];
        *mark = fingerprint(&format!("{mark} beside {}", others.join(", "))).into();
        self
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{core::v1::ConfigMap, rbac::v1::ClusterRole};

    use super::*;

    fn owner(uid: &str) -> Owner {
        let text = str::to_owned;
        Owner { kind: Kind::Collector, name: text("c"), namespace: text("monitoring"), uid: text(uid) }
    }

    fn object(child: &Child) -> DynamicObject {
        serde_json::from_value(child.content.clone()).unwrap()
    }

    #[test]
    fn children_are_their_owners_and_nobody_elses() {
        let (mine, earlier) = (owner("1"), owner("2"));
        let map = object(&Child::namespaced::<ConfigMap>(&mine, "c-config", json!({})));
        assert!(mine.owns(&map) && !earlier.owns(&map));
        assert!(!earlier.succeeds_owner_of(&map), "a person may name an owner");
        let mut role = object(&Child::cluster::<ClusterRole>(&mine, "monitoring:c", json!({})));
        assert!(!mine.owns(&role), "a person may set labels like ours");
        let applied = json!([{"manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": "v1"}]);
        role.metadata.managed_fields = serde_json::from_value(applied).unwrap();
        role.metadata.labels = None;
        assert!(mine.owns(&role), "and may take ours away");
        let mut map = map;
        map.metadata.managed_fields = role.metadata.managed_fields.clone();
        assert!(earlier.succeeds_owner_of(&map) && !mine.succeeds_owner_of(&map));
        let other = Owner { name: "other".to_owned(), ..owner("2") };
        assert!(!other.succeeds_owner_of(&map), "of another name, it is in the way");
        assert_eq!(Owner::is_made_for(&map).as_deref(), Some("Collector 'c'"));
        assert_eq!(Owner::is_made_for(&role), None);
        assert!(!mine.owns(&DynamicObject::new("c", &ApiResource::erase::<ConfigMap>(&())).within("monitoring")));
    }

    #[test]
    fn equal_content_has_an_equal_mark_and_other_content_another() {
        let mark = |value: &str| {
            let child = Child::namespaced::<ConfigMap>(&owner("1"), "x", json!({"data": {"k": value}}));
            child.mark().to_owned()
        };
        assert_eq!(mark("a"), mark("a"));
        assert_ne!(mark("a"), mark("b"));
    }

    #[test]
    fn what_is_beside_it_is_in_the_mark_by_its_names() {
        let map =
            |name: &str, value: &str| Child::namespaced::<ConfigMap>(&owner("1"), name, json!({"data": {"k": value}}));
        let mark = |others: &[Child]| {
            let child = map("x", "a").beside(others);
            child.mark().to_owned()
        };
        assert_eq!(mark(&[map("y", "a")]), mark(&[map("y", "b")]), "its content has a mark of its own");
        assert_ne!(mark(&[map("y", "a")]), mark(&[map("z", "a")]));
        assert_ne!(mark(&[map("y", "a")]), mark(&[map("y", "a"), map("z", "a")]));
    }
}
