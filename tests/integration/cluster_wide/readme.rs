//! README.md's commands for a new cluster, on an API server that knows nothing of ours: those for kubectl as they stand there, in a folder with the files that they name.

use std::{fs, path::Path, process::Command};

use serde_json::json;
use tests::{
    cluster::{Kubectl, OperatorOptions, TestNamespace, documents},
    docs::{self, Deploying, blocks, deploying, object},
};

use crate::{DEFINITIONS, without_definitions};

/// Somebody's registry: README.md's word for it is no host's name.
const REGISTRY: &str = "registry.example";

/// The files that the commands name, after those that are not for kubectl: the image is somewhere, and the kustomization knows where.
fn lay_out(folder: &Path, readme: &str, deploying: &Deploying) {
    let deploy = folder.join(&deploying.kustomization).ancestors().nth(1).expect("it is in a folder").to_owned();
    let copied = Command::new("cp").arg("-r").arg(docs::root().join("deploy")).arg(&deploy).status();
    assert!(copied.is_ok_and(|status| status.success()), "the manifests cannot be copied to {}", deploy.display());
    // As `kustomize edit set image` does it.
    let file = folder.join(&deploying.kustomization).join("kustomization.yaml");
    let mut kustomization = documents(&fs::read_to_string(&file).expect("it was copied")).remove(0);
    let (image, tag) = deploying.image.rsplit_once(':').expect("an image has a tag");
    let image = image.replace("REGISTRY", REGISTRY);
    kustomization["images"] = json!([{"name": "adx-federation", "newName": image, "newTag": tag}]);
    fs::write(&file, kustomization.to_string()).expect("the folder can be written");
    for name in deploying.kubectl[1].iter().filter_map(|word| word.strip_suffix(".yaml")) {
        fs::write(folder.join(format!("{name}.yaml")), object(readme, "ADXCluster", name))
            .expect("the folder can be written");
    }
}

/// The names of a table's columns, and the first cells of each row: those that are the same in every cluster.
fn beginnings(table: &str) -> Vec<Vec<&str>> {
    let shown = |row: usize| if row == 0 { usize::MAX } else { 3 };
    let lines = table.trim().lines().enumerate();
    lines.map(|(row, line)| line.split_whitespace().take(shown(row)).collect()).collect()
}

/// In other stories the rights are bound in a namespace of the story's, and the definitions are there before.
#[tokio::test]
async fn what_readme_says_to_apply_is_all_that_an_operator_needs_to_make_what_an_object_asks_for() {
    let Some(kubectl) = Kubectl::find() else { return };
    let _alone = DEFINITIONS.lock().await;
    let Some(plane) = without_definitions().await else { return };
    let test = TestNamespace::of_others(plane, "adx-federation").await;
    let kubectl = kubectl.of(&test);
    let (folder, readme) = (tempfile::tempdir().expect("a temporary folder can be made"), docs::read("README.md"));
    let deploying = deploying(&readme);
    lay_out(folder.path(), &readme, &deploying);
    let run = |command: &[String]| {
        let absolute = |word: &String| {
            let path = folder.path().join(word);
            if path.exists() { path.display().to_string() } else { word.clone() }
        };
        let words: Vec<String> = command.iter().map(absolute).collect();
        kubectl.run(&words.iter().map(String::as_str).collect::<Vec<_>>(), "")
    };
    let [deploy, apply, all, clusters] = &deploying.kubectl;
    let deployed = run(deploy);
    assert!(deployed.contains("deployment.apps/adx-federation-operator serverside-applied"), "{deployed}");
    let deployment = test.get("apps/v1 Deployment", "adx-federation-operator").await;
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(*image, deploying.image.replace("REGISTRY", REGISTRY));
    let options = OperatorOptions {
        // As the Deployment says. No controller makes its pod here, which would tell the image.
        without: vec!["--namespace", "--lease-namespace", "--allow-loopback"],
        environment: vec![("POD_NAME", "operator-0".to_owned()), ("POD_NAMESPACE", test.name.clone())],
        ..OperatorOptions::default()
    };
    let operator = test.operator_with(&options).await;
    operator.until_leading().await;
    let applied = run(apply);
    let names: Vec<&str> = apply.iter().filter_map(|word| word.strip_suffix(".yaml")).collect();
    let created: Vec<_> = names.iter().map(|name| format!("adxcluster.adx-mon.azure.com/{name} created")).collect();
    assert_eq!(applied.lines().collect::<Vec<_>>(), created);
    for name in &names {
        test.until("apps/v1 Deployment", &format!("{name}-agent"), |agent| !agent.is_null()).await;
        test.until("ADXCluster", name, |object| object["status"]["endpoint"].is_string()).await;
    }
    let everywhere = run(all);
    for name in &names {
        // Behind its kind, where there are several.
        let is_its = |line: &str| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            matches!(cells[..], [space, shown, ..] if space == test.name && shown.rsplit('/').next() == Some(*name))
        };
        assert!(everywhere.lines().any(is_its), "{name} is not in\n{everywhere}");
    }
    let shown = blocks(&readme).find(|(language, block)| language.is_empty() && block.starts_with("NAME "));
    let (_, shown) = shown.expect("README.md shows what the last command prints");
    assert_eq!(beginnings(&run(clusters)), beginnings(shown));
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: ADXCluster\nmetadata: {name: eu, labels: {app: x}}\nspec: {clusterName: eu, endpoint: 'https://eu.kusto.windows.net', databases: [{databaseName: Metrics, telemetryType: Metrics}]}\n").await;
    test.apply("apiVersion: adx-mon.azure.com/v1\nkind: Ingestor\nmetadata: {name: i}\nspec: {adxClusterSelector: {matchLabels: {app: x}}}\n").await;
    // The last one that is made.
    test.until("apps/v1 StatefulSet", "i", |set| !set.is_null()).await;
    for (kind, name) in [
        ("v1 ServiceAccount", "i-ingestor"),
        ("v1 Service", "i"),
        ("rbac.authorization.k8s.io/v1 RoleBinding", "i-ingestor"),
        ("rbac.authorization.k8s.io/v1 ClusterRoleBinding", "adx-mon:adx-federation:ingestor:i"),
    ] {
        test.get(kind, name).await;
    }
    // As for an upgrade: nobody has made a field his own meanwhile.
    assert_eq!(run(deploy), deployed);
    drop(operator);
}
