//! What the API server refuses by a rule of the schemas, the operator refuses, too: an object may be older than a rule. Rules and objects are those of the story that
//! breaks each rule at the API server; a new rule that no kind's plan knows is found here.

#[path = "../../../../tests/integration/operator/schema/breaking.rs"]
mod breaking;
#[allow(dead_code)] // The story needs more of both.
#[path = "../../../../tests/integration/operator/schema/objects.rs"]
mod objects;
#[allow(dead_code)]
#[path = "../../../../tests/integration/operator/schema/rules.rs"]
mod rules;

use serde_json::Value;
use shared::document::ADXCluster;

use self::{
    breaking::broken,
    objects::{WHOLE, corners, foreign},
    rules::{Rule, patch, rules_of},
};
use crate::{
    api::{Alerter, Collector, Ingestor},
    crds::definitions,
    kubernetes::{
        child::Owner,
        managed::{Managed, World},
        settings::Settings,
        stored::Stored,
    },
};

/// Whether nothing is done for an object until a person changes it.
fn is_refused(object: &Value) -> bool {
    match object["kind"].as_str() {
        Some("ADXCluster") => refuses::<ADXCluster>(object),
        Some("Ingestor") => refuses::<Ingestor>(object),
        Some("Collector") => refuses::<Collector>(object),
        Some("Alerter") => refuses::<Alerter>(object),
        other => unreachable!("{other:?} is none of our kinds"),
    }
}

fn refuses<K: Managed>(object: &Value) -> bool {
    let mut object = object.clone();
    object["metadata"]["namespace"] = "ns".into();
    object["metadata"]["uid"] = "u".into();
    let stored: Stored<K> = serde_json::from_value(object).expect("metadata can be read");
    // What cannot be read is left as it is.
    let Stored::Readable(object) = stored else { return true };
    let settings = Settings { allow_loopback: true, ..Settings::of_tests(None) };
    let world = World { can_provision: true, ..World::of_tests(&settings) };
    let plan = object.plan(&Owner::of(K::KIND, object.meta()), &world);
    plan.is_stalled && plan.build.is_none()
}

fn whole() -> Vec<Value> {
    serde_saphyr::from_multiple(WHOLE).expect("the objects are YAML")
}

#[test]
fn whatever_a_rule_of_the_schemas_refuses_the_operator_refuses_too() {
    let whole = whole();
    for object in &whole {
        assert!(!is_refused(object), "{object:#}");
    }
    let definitions = definitions().map(|definition| serde_json::to_value(definition).unwrap());
    let rules: Vec<Rule> = definitions.iter().flat_map(rules_of).collect();
    assert!(rules.len() > 150, "{} rules", rules.len());
    let unknown: Vec<&Rule> = rules.iter().filter(|rule| !is_refused(&broken(rule, &whole).1)).collect();
    assert!(unknown.is_empty(), "the operator would go by objects that break these: {unknown:#?}");
}

/// A rule that is stricter here than at the API server would leave an object alone that was taken.
#[test]
fn what_only_just_keeps_the_rules_of_the_schemas_the_operator_goes_by() {
    for object in corners() {
        assert!(!is_refused(&object), "{object:#}");
    }
}

#[test]
fn every_field_of_the_other_role_is_refused_by_itself() {
    for (name, field, changes) in foreign() {
        let mut object = whole().into_iter().find(|object| object["metadata"]["name"] == name).unwrap();
        patch(&mut object["spec"]["federation"], &changes);
        assert!(is_refused(&object), "{name}: {field}");
    }
}
