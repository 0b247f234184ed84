//! What an operator leaves in a namespace: recorded in a file, a line of JSON for each object under one that names the build, and put back into another namespace as
//! it was. I/O: the API server, files of the repository.

use std::{fs, io};

use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{namespace::TestNamespace, objects::kind_of};
use crate::docs::{read, root};

/// The kinds that people apply.
const OBJECTS: [&str; 4] = ["ADXCluster", "Ingestor", "Collector", "Alerter"];

/// An image whose agents only seem to run: what they would tell of a hub that is not there differs from time to time.
pub const SEEMING_AGENT: &str = "x/agent:1";

/// What an earlier build has left, by its path in the repository.
const FILE: &str = "tests/recorded/earlier-operator.jsonl";

/// The definitions of that build, as it prints them.
pub const EARLIER_DEFINITIONS: &str = "tests/recorded/earlier-crds.yaml";

/// The objects of one namespace, with everyone's fields: what people applied, what was made for it, and the operator's lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    /// Each as the API server shows it.
    pub objects: Vec<Value>,
    namespace: String,
}

impl Left {
    /// What there is now.
    ///
    /// # Panics
    /// If the API server does not answer.
    pub async fn of(test: &TestNamespace) -> Self {
        let mut objects = all(test, &OBJECTS).await;
        objects.extend(test.children().await.into_iter().map(|(_, child)| child));
        objects.extend(all(test, &["coordination.k8s.io/v1 Lease"]).await);
        Self { objects, namespace: test.name.clone() }
    }

    /// What the earlier build left in the namespace whose name begins so.
    ///
    /// # Panics
    /// If it was not recorded.
    pub fn recorded(name: &str) -> Self {
        let text = read(FILE);
        let lines = text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
        let begin = format!("{name}-");
        let objects: Vec<Value> = lines.filter(|object| namespace_of(object).starts_with(&begin)).collect();
        let namespace = namespace_of(objects.first().expect("it was recorded")).to_owned();
        Self { objects, namespace }
    }

    /// Records what a build has left, and under which definitions.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn record(build: &str, definitions: &str, all: &[Self]) -> io::Result<()> {
        let told = "what the operator of this build left of the seed's examples, and of more in the namespace scaled-*; `make record` writes such a file";
        let first = json!({"build": build, "recorded": told}).to_string() + "\n";
        let objects = all.iter().flat_map(|left| &left.objects);
        fs::write(root().join(EARLIER_DEFINITIONS), definitions)?;
        fs::write(root().join(FILE), objects.fold(first, |text, object| text + &object.to_string() + "\n"))
    }

    /// Makes all of it in another namespace as it was, and gives what should be there: under names and identities of now.
    ///
    /// # Panics
    /// If the API server refuses something.
    pub async fn put_back(&self, test: &TestNamespace) -> Self {
        let mut back = self.renamed(&self.namespace, &test.name);
        for index in 0..back.objects.len() {
            let object = &back.objects[index];
            let identity = put(test, object).await;
            // Nobody names another's.
            if is_peoples(object) {
                let was = object["metadata"]["uid"].as_str().expect("an object has an identity").to_owned();
                back = back.renamed(&was, &identity);
            }
        }
        back
    }

    fn renamed(&self, was: &str, is: &str) -> Self {
        let renamed = |object: &Value| {
            let text = object.to_string().replace(was, is);
            serde_json::from_str(&text).expect("it was JSON")
        };
        Self { objects: self.objects.iter().map(renamed).collect(), namespace: self.namespace.replace(was, is) }
    }
}

/// Objects of some kinds, by their names.
async fn all(test: &TestNamespace, kinds: &[&str]) -> Vec<Value> {
    let mut objects = Vec::new();
    for kind in kinds {
        let list = test.api(kind).list(&ListParams::default()).await.expect("the API server lists");
        let mut names: Vec<String> = list.items.into_iter().filter_map(|object| object.metadata.name).collect();
        names.sort();
        for name in names {
            objects.push(test.get(kind, &name).await);
        }
    }
    objects
}

/// Whether an object is of a kind that people apply.
pub fn is_peoples(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| OBJECTS.contains(&kind))
}

/// An object's name.
///
/// # Panics
/// If it has none.
pub fn name_of(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("an object has a name")
}

/// Where an object was made, or for whose.
fn namespace_of(object: &Value) -> &str {
    let metadata = &object["metadata"];
    let own = metadata["namespace"].as_str();
    own.or_else(|| metadata["labels"]["adx-mon.azure.com/namespace"].as_str()).expect("it is of one namespace")
}

/// Makes an object: its new identity.
async fn put(test: &TestNamespace, object: &Value) -> String {
    let (api, name) = (test.api(&kind_of(object)), name_of(object));
    let made = api.create(&PostParams::default(), &as_new(object)).await;
    let made = made.unwrap_or_else(|error| panic!("{error}\n{object:#}"));
    // What is made for it is told of by its controllers.
    if is_peoples(object) {
        let status = Patch::Merge(json!({"status": object["status"]}));
        let told = api.patch_status(name, &PatchParams::default(), &status).await;
        told.expect("the API server takes the status");
    }
    // Until now, all is its maker's.
    let owners = Patch::Merge(json!({"metadata": {"managedFields": object["metadata"]["managedFields"]}}));
    api.patch(name, &PatchParams::default(), &owners).await.expect("the API server takes whose each field is");
    made.metadata.uid.expect("an object has an identity")
}

/// The object without what the API server chooses, and without its status.
fn as_new(object: &Value) -> DynamicObject {
    let mut new = object.clone();
    let leave_out = |from: &mut Value, fields: &[&str]| {
        let from = from.as_object_mut().expect("it has fields");
        from.retain(|field, _| !fields.contains(&field.as_str()));
    };
    leave_out(&mut new, &["status"]);
    let chosen = ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"];
    leave_out(&mut new["metadata"], &chosen);
    if object["kind"] == "Service" {
        // Another Service may have them by now.
        leave_out(&mut new["spec"], &["clusterIP", "clusterIPs", "healthCheckNodePort"]);
        for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
            leave_out(port, &["nodePort"]);
        }
    }
    serde_json::from_value(new).expect("it is an object")
}
