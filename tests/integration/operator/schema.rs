//! Every rule of the schemas, wherever it is, is one by which the API server refuses an object that keeps all others, and says so with field, value and rule: of patterns
//! and of what is in CEL in our words, of all else in its own. Every default is filled in. What there is comes from `deploy/crds`, so that a new rule which no object
//! breaks is found, and a pattern that nothing says in our words.

#![allow(clippy::panic)] // A failed expectation is what a story is for.

mod breaking;
mod objects;
mod rules;

use std::{collections::BTreeSet, fs};

use kube::core::response::StatusCause;
use serde_json::Value;
use tests::{
    cluster::{TestNamespace, documents},
    docs::root,
};

use self::{
    breaking::broken,
    objects::{LEAST, WHOLE, breaches, corners, foreign},
    rules::{Rule, defaults_of, fill_in, patch, rules_of, schema_of},
};

/// What the API server adds where it has not looked at the rules in CEL.
const NOT_CHECKED: &str = "some validation rules were not checked";

/// Rules that cannot be broken alone, and where the other one is: nothing is below the least `maxReplicas` that `minReplicas` could be, and no second bound is as high
/// as what is too high for an `int32`.
const BROKEN_TOGETHER: [(&str, &str, &str); 3] = [
    ("spec.autoscaling.maxReplicas", "minimum", "spec.autoscaling"),
    ("spec.autoscaling.minReplicas", "format", "spec.autoscaling"),
    ("spec.provision.autoScaleMin", "format", "spec.provision"),
];

/// Every default of the definitions: kind, place, and value in JSON. Those of databases, `provision`, `role` and the Ingestor's `replicas` and `exposeExternally` are the
/// design's. In a status they stand for what an earlier operator did not write.
const DEFAULTS: &str = r#"
ADXCluster spec.databases[].retentionInDays 30
ADXCluster spec.federation.macroExpand.bestEffort true
ADXCluster spec.federation.macroExpand.folder "federation_facades"
ADXCluster spec.federation.macroExpand.functionPrefix "federated_"
ADXCluster spec.federation.membership.flappingReturns 3
ADXCluster spec.federation.membership.joinAfterBeats 1
ADXCluster spec.federation.membership.massExpiryPartitions 3
ADXCluster spec.federation.membership.massExpiryPercent 55
ADXCluster spec.federation.membership.removalPercent 15
ADXCluster spec.federation.membership.returnAfterBeats 2
ADXCluster spec.federation.membership.suspectAfterMissedBeats 1
ADXCluster spec.federation.membership.zoneAttribute "geo"
ADXCluster spec.provision.autoScale false
ADXCluster spec.provision.autoScaleMax 10
ADXCluster spec.provision.autoScaleMin 2
ADXCluster spec.provision.tier "Standard"
ADXCluster spec.role "Partition"
ADXCluster status {"observedGeneration":-1}
ADXCluster status.appliedProvisionState.autoScale.max 0
ADXCluster status.appliedProvisionState.autoScale.min 0
ADXCluster status.provision.failures[].generation 0
ADXCluster status.provision.failures[].request ""
ADXCluster status.provision.failures[].status 0
ADXCluster status.provision.operation.request ""
ADXCluster status.provision.requested.autoScale.max 0
ADXCluster status.provision.requested.autoScale.min 0
Ingestor spec.autoscaling.minReplicas 1
Ingestor spec.autoscaling.targetCPUUtilizationPercentage 80
Ingestor spec.exposeExternally false
Ingestor spec.replicas 1
Ingestor status {"observedGeneration":-1}
Collector status {"observedGeneration":-1}
Alerter status {"observedGeneration":-1}
"#;

/// The definitions of our kinds, as they are installed.
pub(crate) fn definitions() -> Vec<Value> {
    documents(&fs::read_to_string(root().join("deploy/crds/crds.yaml")).expect("it is generated"))
}

#[tokio::test]
async fn every_rule_of_the_schemas_refuses_an_object_that_breaks_it_alone() {
    let test = TestNamespace::new("rules").await;
    let whole = documents(WHOLE);
    for object in &whole {
        let taken = test.rehearse(object).await;
        assert!(taken.is_ok(), "{object:#}\n{taken:#?}");
    }
    let rules: Vec<Rule> = definitions().iter().flat_map(rules_of).collect();
    assert!(rules.len() > 150, "{} rules", rules.len());
    for rule in &rules {
        let (object, broken) = broken(rule, &whole);
        let causes = why_refused(&test, &broken).await;
        let (message, shown) = (rule.message(), rule.shown(&broken).unwrap_or_default());
        let said = causes.iter().any(|cause| cause.message.contains(&message) && cause.message.contains(&shown));
        assert!(said, "{rule:?}\n{causes:#?}\nlacks: {message} {shown}");
        // A number of another format is the one thing that is told without its place.
        let field = if rule.key == "format" { "<nil>".to_owned() } else { rule.field() };
        let other = BROKEN_TOGETHER.iter().find(|(path, key, _)| (*path, *key) == (&*rule.path, &*rule.key));
        let alone = |place: &str| place == field || other.is_some_and(|(_, _, other)| place == *other);
        assert!(causes.iter().all(|cause| alone(&cause.field)), "{rule:?}\n{causes:#?}");
        // Whatever else it may break.
        let place = rule.pointer();
        for corner in rule.corners(object.pointer(&place).expect("it was looked for")) {
            let mut kept = object.clone();
            *kept.pointer_mut(&place).expect("it was looked for") = corner;
            let causes = why_refused(&test, &kept).await;
            let said = causes.iter().any(|cause| cause.message.contains(&rule.message()));
            assert!(!said, "{rule:?}\n{causes:#?}");
        }
    }
    println!("{} rules, each broken by an object of its own", rules.len());
    let is_broken = |message: &str| rules.iter().any(|rule| rule.message().starts_with(message));
    let idle: Vec<_> = breaches().iter().map(|breach| breach.message).filter(|message| !is_broken(message)).collect();
    assert!(idle.is_empty(), "no rule says {idle:?}");
}

#[tokio::test]
async fn valid_corners_are_taken() {
    let test = TestNamespace::new("corners").await;
    for object in corners() {
        let taken = test.rehearse(&object).await;
        assert!(taken.is_ok(), "{object:#}\n{taken:#?}");
    }
}

/// Why the API server refuses an object; nothing, if it takes it.
async fn why_refused(test: &TestNamespace, object: &Value) -> Vec<StatusCause> {
    let refusal = test.rehearse(object).await.err();
    let causes = refusal.and_then(|refusal| refusal.details).map(|details| details.causes).unwrap_or_default();
    causes.into_iter().filter(|cause| !cause.message.contains(NOT_CHECKED)).collect()
}

/// One rule for each role names them all.
#[tokio::test]
async fn every_field_of_the_other_role_is_refused_by_itself() {
    let test = TestNamespace::new("roles").await;
    let messages: Vec<String> = definitions().iter().flat_map(rules_of).map(|rule| rule.message()).collect();
    let whole = documents(WHOLE);
    for (role, name) in [("Federated", "hub"), ("Partition", "partition")] {
        let begin = format!("role {role} must not have ");
        let message = messages.iter().find(|message| message.starts_with(&begin)).expect("there is such a rule");
        let (named, _) = message[begin.len()..].split_once(": they belong to").expect("it says whose they are");
        let named = named.replace(" or ", ", ").replace(" beside its hubs", "");
        let mut refused = Vec::new();
        for (_, field, changes) in foreign().into_iter().filter(|(object, ..)| *object == name) {
            let object = whole.iter().find(|object| object["metadata"]["name"] == name);
            let mut object = object.expect("it is one of them").clone();
            patch(&mut object["spec"]["federation"], &changes);
            let causes = why_refused(&test, &object).await;
            assert!(matches!(&causes[..], [cause] if cause.message.contains(message)), "{field}: {causes:#?}");
            refused.push(field);
        }
        assert_eq!(refused, named.split(", ").collect::<Vec<_>>(), "what is refused, and what the rule names");
    }
}

#[tokio::test]
async fn every_default_of_the_schemas_is_filled_in_and_nothing_else() {
    let test = TestNamespace::new("defaults").await;
    let mut there = BTreeSet::new();
    for definition in &definitions() {
        let kind = definition["spec"]["names"]["kind"].as_str().expect("a definition names its kind");
        let schema = schema_of(definition);
        let mut filled = Vec::new();
        for least in documents(LEAST).iter().filter(|least| least["kind"] == kind) {
            let mut expected = least.clone();
            fill_in(schema, "", &mut expected, &mut filled);
            let made = test.rehearse(least).await.expect("the API server takes it");
            assert_eq!(made["spec"], expected["spec"], "{least:#}");
        }
        let defaults = defaults_of(schema, "");
        let missing: Vec<_> = defaults.iter().filter(|(path, _)| !filled.contains(path)).collect();
        assert!(missing.is_empty(), "no {kind} shows {missing:?}");
        let of_status = defaults_of(&schema["properties"]["status"], "status");
        let lines = defaults.into_iter().chain(of_status).map(|(path, default)| format!("{kind} {path} {default}"));
        there.extend(lines);
    }
    let written: BTreeSet<String> = DEFAULTS.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(there, written, "the definitions' defaults, and those that are written down");
}
