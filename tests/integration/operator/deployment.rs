//! `deploy/kustomize`: the API server takes every manifest, and pods of ours satisfy the `restricted` profile.

use std::{fs, path::PathBuf};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tests::cluster::TestNamespace;

use crate::support::{CLUSTER, COMPONENTS, PARTITION};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize")
}

#[tokio::test]
async fn every_manifest_is_listed_and_taken_and_grants_no_more_than_is_said() {
    let test = TestNamespace::new("kustomize").await;
    let kustomization =
        fs::read_to_string(folder().join("kustomization.yaml")).expect("the manifests are in the repository");
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let name = entry.expect("the folder can be read").file_name().to_string_lossy().into_owned();
        assert!(name == "kustomization.yaml" || kustomization.contains(&format!("- {name}\n")), "{name} is not listed");
    }
    let deployment = fs::read_to_string(folder().join("deployment.yaml")).expect("the manifest is there");
    test.apply(&deployment.replace("namespace: adx-federation", &format!("namespace: {}", test.name))).await;
    let rbac = fs::read_to_string(folder().join("rbac.yaml")).expect("the manifest is there");
    let rules = rbac.split("rules:").nth(1).expect("there are rules");
    for forbidden in ["secrets", "'*'", "\"*\"", "[*]", "escalate", "bind]", "impersonate"] {
        assert!(!rules.contains(forbidden), "{forbidden} in the rules");
    }
}

/// The profile is enforced by the API server itself.
#[tokio::test]
async fn pods_satisfy_the_restricted_profile_where_their_component_allows_it() {
    let test = TestNamespace::new("restricted").await;
    let namespaces: Api<Namespace> = Api::all(test.client());
    let enforced = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces
        .patch(&test.name, &PatchParams::default(), &Patch::Merge(&enforced))
        .await
        .expect("the API server takes the label");
    let _operator = test.operator().await;
    let deployment = fs::read_to_string(folder().join("deployment.yaml")).expect("the manifest is there");
    test.apply(&deployment.replace("namespace: adx-federation", &format!("namespace: {}", test.name))).await;
    test.apply(PARTITION).await;
    // A pod that the profile forbids is never made.
    for name in ["adx-federation-operator", "part-agent"] {
        test.until("apps/v1 Deployment", name, |object| object["status"]["replicas"] == object["spec"]["replicas"])
            .await;
    }
    // Components read the node's certificates and logs, and keep what they have not sent on the node: host paths, which the profile forbids.
    test.apply(CLUSTER).await;
    // A Collector that follows its Ingestor would wait for it.
    test.apply(
        &COMPONENTS.replace("name: c}\nspec: {}", "name: c}\nspec: {ingestorEndpoint: 'https://i.example.com'}"),
    )
    .await;
    let refused = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| {
            condition["type"] == "ReplicaFailure" && condition["message"].to_string().contains("hostPath")
        })
    };
    test.until("apps/v1 Deployment", "a", refused).await;
    let told = test.until_condition("Alerter", "a", "Ready", "False", "FailedCreate").await;
    assert!(told.to_string().contains("violates PodSecurity"), "{told:#}");
    for (kind, name) in [("Ingestor", "i"), ("Collector", "c")] {
        let told = test.until_condition(kind, name, "Ready", "False", "FailedCreate").await;
        assert!(told.to_string().contains("violates PodSecurity"), "{told:#}");
    }
}
