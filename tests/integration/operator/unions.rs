//! Drift that changes which member of a union an object has.

use kube::api::PostParams;
use serde_json::{Value, json};
use tests::cluster::TestNamespace;

use crate::{
    drift::{reverted, within_a_second},
    support::{CLUSTER, COMPONENTS, PARTITION, until_ready},
};

/// A variable has a value or a source, a volume one source, a probe one handler: what somebody chose instead leaves no room for ours.
#[tokio::test]
async fn another_member_of_a_union_is_reverted_and_holds_up_nothing_else() {
    let test = TestNamespace::new("unions").await;
    let _operator = test.operator().await;
    test.apply(CLUSTER).await;
    test.apply(COMPONENTS).await;
    test.apply(PARTITION).await;
    until_ready(&test).await;
    test.until("policy/v1 PodDisruptionBudget", "part-agent", |object| !object.is_null()).await;
    let variable = json!({"name": "LOG_LEVEL", "valueFrom": {"configMapKeyRef": {"name": "e", "key": "LOG_LEVEL"}}});
    let config = json!({"name": "config", "emptyDir": {}});
    for (kind, name, place, theirs) in [
        ("apps/v1 StatefulSet", "i", "/spec/template/spec/containers/0/env/0", variable),
        (
            "apps/v1 StatefulSet",
            "i",
            "/spec/template/spec/containers/0/readinessProbe",
            json!({"exec": {"command": ["true"]}}),
        ),
        ("apps/v1 DaemonSet", "c", "/spec/template/spec/volumes/7", config),
        ("policy/v1 PodDisruptionBudget", "part-agent", "/spec", json!({"minAvailable": 1})),
        ("v1 ConfigMap", "c-config", "/binaryData", json!({"config.toml": "eA=="})),
    ] {
        let before = test.get(kind, name).await;
        within_a_second(&format!("{kind} {name} {place}"), async || {
            loop {
                let mut object = test.get(kind, name).await;
                match object.pointer_mut(place) {
                    // What is ours stays beside it, and elsewhere in the object, as a value that nobody else changes.
                    Some(spoilt) if place == "/spec" => {
                        spoilt.as_object_mut().expect("a spec is an object").remove("maxUnavailable");
                        spoilt["minAvailable"] = theirs["minAvailable"].clone();
                    }
                    Some(spoilt) => *spoilt = theirs.clone(),
                    None => {
                        object["data"] = Value::Null;
                        object["binaryData"] = theirs.clone();
                    }
                }
                if kind == "apps/v1 StatefulSet" {
                    object["spec"]["replicas"] = 7.into();
                }
                let object = serde_json::from_value(object).expect("an object stays one");
                let params = PostParams { field_manager: Some("somebody".to_owned()), ..PostParams::default() };
                match test.api(kind).replace(name, &params, &object).await {
                    // Its status went on meanwhile: nothing is spoilt yet.
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    replaced => break drop(replaced.expect("the API server takes the change")),
                }
            }
            let fits = |object: &Value| {
                let same = |place: &str| object.pointer(place) == before.pointer(place);
                same(place) && same("/spec") && same("/data")
            };
            reverted(&test, kind, name, fits).await
        })
        .await;
        // Whatever made room holds on to nothing.
        let is_free = |object: &Value| managers_of(object).iter().all(|manager| !manager.ends_with("reclaiming"));
        reverted(&test, kind, name, is_free).await;
    }
}

pub(crate) fn managers_of(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter_map(|entry| entry["manager"].as_str().map(str::to_owned)).collect()
}
