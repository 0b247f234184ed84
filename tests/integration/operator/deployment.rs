//! `deploy/kustomize`: kubectl renders it, the API server takes every manifest, and pods of ours satisfy the `restricted` profile.

#![allow(clippy::panic)] // A failed expectation is what a story is for.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tests::{
    cluster::{Kubectl, OperatorOptions, PATIENCE, TestNamespace, message_of, objects_of, rights_of},
    docs,
    logs::assert_json,
};
use tokio::time;

use crate::{
    drift::{change, reverted},
    rights::FOR_OWNER_REFERENCES,
    support::{CLUSTER, COMPONENTS, HUB, PARTITION, until_agent, until_ready},
};

fn folder() -> PathBuf {
    docs::root().join("deploy/kustomize")
}

/// The files that a kustomization reads, those of other kustomizations that it names included. kubectl refuses a file outside of its kustomization's folder.
fn manifests_of(folder: &Path) -> Vec<PathBuf> {
    let path = folder.join("kustomization.yaml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let kustomization: Vec<Value> = serde_saphyr::from_multiple(&text).expect("it is YAML");
    let resources = kustomization[0]["resources"].as_array().expect("it lists resources").iter();
    let manifests = resources.flat_map(|resource| {
        let resource = resource.as_str().expect("a resource is a path");
        let leads_out = Path::new(resource).components().any(|step| step == Component::ParentDir);
        let found = folder.join(resource);
        assert!(!leads_out || found.is_dir(), "{}: {resource} is a file outside of its folder", path.display());
        if found.is_dir() { manifests_of(&found) } else { vec![found] }
    });
    manifests.collect()
}

#[test]
fn what_a_kustomization_names_outside_of_its_folder_is_another_kustomization() {
    let manifests = manifests_of(&folder());
    for name in ["crds.yaml", "rbac.yaml", "deployment.yaml", "namespace.yaml"] {
        assert!(manifests.iter().any(|file| file.ends_with(name) && file.is_file()), "{name} is not in {manifests:?}");
    }
}

/// The objects of manifests in YAML.
fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("a manifest is YAML")
}

/// By kubectl's own kustomize, which asks no API server.
#[test]
fn kubectl_renders_every_manifest_with_this_versions_image() {
    let Some(kubectl) = Kubectl::find() else { return };
    let rendered = objects(&kubectl.run(&["kustomize", &folder().display().to_string()], ""));
    let names = |objects: &[Value]| -> BTreeSet<String> {
        objects.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
    };
    let files = manifests_of(&folder()).into_iter().map(|file| fs::read_to_string(file).expect("the file is there"));
    let listed: Vec<Value> = files.flat_map(|text| objects(&text)).collect();
    assert_eq!(names(&rendered), names(&listed));
    assert_eq!(rendered.len(), listed.len());
    let deployment = rendered.iter().find(|object| object["kind"] == "Deployment").expect("it is rendered");
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, concat!("adx-federation:", env!("CARGO_PKG_VERSION")));
}

/// Each right of each rule on a line of its own: one that is added shows as one line in review.
#[test]
fn the_operators_rights_are_as_reviewed() {
    let rbac = fs::read_to_string(folder().join("rbac.yaml")).expect("the manifest is there");
    let objects = objects(&rbac);
    let kinds: Vec<_> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!(kinds, ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"], "there are no other rights");
    let rules = &objects[1]["rules"];
    for rule in rules.as_array().expect("a role has rules") {
        // What would narrow or widen a rule in another way is not among its lines.
        let known = ["apiGroups", "resources", "nonResourceURLs", "verbs"];
        assert!(rule.as_object().expect("a rule has fields").keys().all(|field| known.contains(&field.as_str())));
    }
    insta::assert_snapshot!(rights_of(rules).into_iter().collect::<Vec<_>>().join("\n"));
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
    let words = |text: &str| -> Vec<String> {
        let objects: Vec<Value> = serde_saphyr::from_multiple(text).expect("the manifest is YAML");
        let rules = objects.iter().flat_map(|object| object["rules"].as_array().cloned().unwrap_or_default());
        let lists = rules
            .flat_map(|rule| ["apiGroups", "resources", "verbs", "nonResourceURLs"].map(|list| rule[list].clone()));
        lists
            .flat_map(|list| list.as_array().cloned().unwrap_or_default())
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let granted = words(&rbac);
    assert!(granted.len() > 50, "{granted:?}");
    for forbidden in ["secrets", "*", "escalate", "bind", "impersonate"] {
        assert!(!granted.iter().any(|word| word == forbidden), "{forbidden} in the rules");
    }
    // What kustomize is told: files that are there, and this version's image.
    for file in manifests_of(&folder()) {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(&fs::read_to_string(&file).expect("the file is there")).expect("it is YAML");
        assert!(!objects.is_empty() && objects.iter().all(|object| object["kind"].is_string()), "{}", file.display());
    }
    let kustomization: Vec<Value> = serde_saphyr::from_multiple(&kustomization).expect("it is YAML");
    assert_eq!(kustomization[0]["images"], json!([{"name": "adx-federation", "newTag": env!("CARGO_PKG_VERSION")}]));
    // The operator takes the arguments that it is started with.
    let deployment: Vec<Value> = serde_saphyr::from_multiple(&deployment).expect("it is YAML");
    let container = &deployment[0]["spec"]["template"]["spec"]["containers"][0];
    let arguments: Vec<String> = container["args"]
        .as_array()
        .expect("it has arguments")
        .iter()
        .filter_map(|argument| argument.as_str().map(str::to_owned))
        .collect();
    assert_eq!((&container["command"], arguments[0].as_str()), (&json!(["/operator"]), "run"));
    let own = arguments.into_iter().skip(1).filter(|argument| !argument.starts_with("--admin=")).collect();
    let operator = test.operator_with(&OperatorOptions { arguments: own, ..OperatorOptions::default() }).await;
    operator.until_leading().await;
    // It is started with `--log-format=json`, and has something to tell.
    test.apply(CLUSTER).await;
    let started = Instant::now();
    while !operator.process.output().contains("readiness changed") {
        assert!(started.elapsed() < PATIENCE, "{}", operator.process.output());
        time::sleep(Duration::from_millis(50)).await;
    }
    assert_json(&operator.process.output());
}

/// A service account with all of the operator's rights in the namespace but one. Those to URLs are none of a namespace's.
fn account_without(name: &str, rights: &BTreeSet<String>, right: &str) -> [Value; 3] {
    let version = "rbac.authorization.k8s.io/v1";
    let rules = rights.iter().filter(|kept| *kept != right).filter_map(|kept| {
        let words: Vec<&str> = kept.split(' ').collect();
        let [group, resource, verb] = words[..] else { return None };
        let group = if group == "core" { "" } else { group };
        (group != "URL").then(|| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]}))
    });
    let rules: Vec<Value> = rules.collect();
    assert!(rules.len() > 50, "{rules:?}");
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
        json!({"apiVersion": version, "kind": "Role", "metadata": {"name": name}, "rules": rules}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": {"name": name}, "roleRef": reference, "subjects": [{"kind": "ServiceAccount", "name": name}]}),
    ]
}

/// What the API server says to whoever makes another object of a kind for these owners. Nothing is stored.
async fn made_for(client: &Client, namespace: &str, kind: &str, owners: &Value) -> Result<(), kube::Error> {
    let (version, word) = kind.split_once(' ').expect("a kind has a version");
    let object =
        json!({"apiVersion": version, "kind": word, "metadata": {"name": "another", "ownerReferences": owners}});
    let object = serde_json::from_value(object).expect("it has the form of an object");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    objects_of(client, namespace, kind).create(&dry_run, &object).await.map(drop)
}

/// What it says to whoever changes the owners of an object that is there.
async fn given_away(client: &Client, namespace: &str, kind: &str, name: &str) -> Result<(), kube::Error> {
    let patch = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    objects_of(client, namespace, kind).patch(name, &dry_run, &patch).await.map(drop)
}

/// With all its rights the operator makes these children, and sets an owner again that somebody took away: the API server of stories asks as OpenShift's does.
#[tokio::test]
async fn each_right_for_owner_references_is_asked_for_and_whoever_lacks_it_is_refused() {
    let test = TestNamespace::new("owners").await;
    if test.plane.rights_used_by(&test.name, "adx-federation-operator").is_none() {
        println!("skipped: the API server is not ours, and may ask nobody for rights over owners");
        return;
    }
    let operator = test.operator().await;
    test.apply(&[CLUSTER, COMPONENTS, PARTITION].join("---")).await;
    until_ready(&test).await;
    until_agent(&test).await;
    let needed = [
        ("adx-mon.azure.com adxclusters/finalizers update", "v1 ServiceAccount", "part-agent"),
        ("adx-mon.azure.com ingestors/finalizers update", "v1 ServiceAccount", "i-ingestor"),
        ("adx-mon.azure.com collectors/finalizers update", "v1 ServiceAccount", "c-collector"),
        ("adx-mon.azure.com alerters/finalizers update", "v1 ServiceAccount", "a-alerter"),
        ("apps statefulsets delete", "apps/v1 StatefulSet", "i"),
        ("apps daemonsets delete", "apps/v1 DaemonSet", "c"),
    ];
    assert_eq!(needed.map(|(right, ..)| right), FOR_OWNER_REFERENCES);
    let rbac = objects(&fs::read_to_string(folder().join("rbac.yaml")).expect("the manifest is there"));
    let role = rbac.iter().find(|object| object["kind"] == "ClusterRole").expect("it grants the rights");
    let rights = rights_of(&role["rules"]);
    for (number, (right, kind, name)) in needed.into_iter().enumerate() {
        assert!(rights.contains(right), "{right}");
        let owners = test.get(kind, name).await["metadata"]["ownerReferences"].clone();
        assert_eq!(owners[0]["blockOwnerDeletion"], true, "{owners:#}");
        let is_of_a_child = right.ends_with(" delete");
        if is_of_a_child {
            change(&test, kind, name, json!({"metadata": {"ownerReferences": null}})).await;
            reverted(&test, kind, name, |child| child["metadata"]["ownerReferences"] == owners).await;
        }
        let account = format!("lacks-{number}");
        for object in account_without(&account, &rights, right) {
            test.apply(&object.to_string()).await;
        }
        let client = test.plane.client_of_account(&test.name, &account).await;
        let refusal = match is_of_a_child {
            true => "cannot set an ownerRef on a resource you can't delete",
            false => {
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"
            }
        };
        // The authorizer may learn of its other rights a moment later: until then it is refused in other words.
        let started = Instant::now();
        loop {
            let answer = match is_of_a_child {
                true => given_away(&client, &test.name, kind, name).await,
                false => made_for(&client, &test.name, kind, &owners).await,
            };
            let told = answer.expect_err("a right is missing").to_string();
            if told.contains(refusal) {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "without '{right}': {told}");
            time::sleep(Duration::from_millis(50)).await;
        }
    }
    drop(operator);
}

/// What the profile forbids each component, in the API server's words: components read the node's certificates and logs and keep what they have not sent on the
/// node, the Collector is found at a port of its node, and the Ingestor runs as its image's user.
const VIOLATIONS: [(&str, &str, &str); 3] = [
    (
        "Ingestor",
        "i",
        r#"restricted volume types (volumes "ca-certs", "etc-pki-ca-certs", "metrics" use restricted volume type "hostPath"), runAsNonRoot != true (pod or container "ingestor" must set securityContext.runAsNonRoot=true)"#,
    ),
    (
        "Collector",
        "c",
        r#"hostPort (container "collector" uses hostPort 3100), restricted volume types (volumes "ca-certs", "etc-pki-ca-certs", "storage", "varlog", "runlog", "containers", "machine-id" use restricted volume type "hostPath"), runAsNonRoot != true (pod or container "collector" must set securityContext.runAsNonRoot=true), runAsUser=0 (container "collector" must not set runAsUser=0)"#,
    ),
    (
        "Alerter",
        "a",
        r#"restricted volume types (volumes "ca-certs", "etc-pki-ca-certs" use restricted volume type "hostPath")"#,
    ),
];

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
    test.apply(&[PARTITION, HUB].join("---")).await;
    // A pod that the profile forbids is never made.
    for name in ["adx-federation-operator", "part-agent", "hub-agent"] {
        test.until("apps/v1 Deployment", name, |object| object["status"]["replicas"] == object["spec"]["replicas"])
            .await;
    }
    test.apply(CLUSTER).await;
    // A Collector that follows its Ingestor would wait for it.
    test.apply(
        &COMPONENTS.replace("name: c}\nspec: {}", "name: c}\nspec: {ingestorEndpoint: 'https://i.example.com'}"),
    )
    .await;
    // People are told of each.
    let readme = docs::read("README.md");
    let told = readme.split("\n\n").find(|paragraph| paragraph.starts_with("**Pod Security**")).expect("it is told");
    for (violation, words) in [
        ("\"hostPath\"", "all host paths"),
        ("\"ca-certs\"", "read the node's certificates"),
        ("\"varlog\"", "the collector its logs"),
        ("hostPort 3100", "port 3100 of its node (a `hostPort`)"),
        ("runAsNonRoot", "its image's user, which nothing says is not root"),
    ] {
        let is_forbidden = VIOLATIONS.iter().any(|(_, _, violations)| violations.contains(violation));
        assert!(is_forbidden && told.replace('\n', " ").contains(words), "{violation}: {told}");
    }
    // All that the profile forbids them: a capability that is not dropped, or no seccomp profile, would stand beside it.
    for (kind, name, violations) in VIOLATIONS {
        let told = test.until_condition(kind, name, "Ready", "False", "FailedCreate").await;
        let message = message_of(&told, "Ready");
        let violated = message.split_once("violates PodSecurity \"restricted:latest\": ").map(|(_, rest)| rest);
        assert_eq!(violated, Some(violations), "{kind}: {message}");
    }
}
