//! Every rule of the schemas, wherever it is, is one by which the API server refuses an object that keeps all others; every default is filled in. What there is comes
//! from `deploy/crds`, so that a new rule which no object breaks is found.

#![allow(clippy::panic)] // A failed expectation is what a story is for.

mod objects;
mod rules;

use std::fs;

use kube::core::response::StatusCause;
use serde_json::Value;
use tests::{
    cluster::{TestNamespace, documents},
    docs::root,
};

use self::{
    objects::{Breach, LEAST, WHOLE, breaches},
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

fn definitions() -> Vec<Value> {
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
        let breach = breach_of(rule);
        let object = whole_object(rule, breach.as_ref(), &whole);
        let place = rule.pointer();
        let mut broken = object.clone();
        match &breach {
            Some(breach) => patch(broken.pointer_mut(&place).expect("it was looked for"), &breach.patch),
            None => rule.break_in(&mut broken),
        }
        let causes = why_refused(&test, &broken).await;
        let said = causes.iter().any(|cause| cause.message.contains(&rule.message()));
        assert!(said, "{rule:?}\n{causes:#?}\nlacks: {}", rule.message());
        // A number of another format is the one thing that is told without its place.
        let field = if rule.key == "format" { "<nil>".to_owned() } else { rule.field() };
        let other = BROKEN_TOGETHER.iter().find(|(path, key, _)| (*path, *key) == (&*rule.path, &*rule.key));
        let alone = |place: &str| place == field || other.is_some_and(|(_, _, other)| place == *other);
        assert!(causes.iter().all(|cause| alone(&cause.field)), "{rule:?}\n{causes:#?}");
        // Whatever else it may break.
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

/// What breaks a rule in CEL; there must be something.
fn breach_of(rule: &Rule) -> Option<Breach> {
    let is_in_cel = rule.key == "x-kubernetes-validations";
    let breach = breaches().into_iter().find(|breach| is_in_cel && rule.message().starts_with(breach.message));
    assert!(breach.is_some() == is_in_cel, "nobody knows how to break {rule:?}");
    breach
}

/// The object in which a rule is to be broken.
fn whole_object<'a>(rule: &Rule, breach: Option<&Breach>, whole: &'a [Value]) -> &'a Value {
    let name = breach.and_then(|breach| breach.object);
    let fits = |object: &&Value| {
        object["kind"] == rule.kind.as_str()
            && object.pointer(&rule.pointer()).is_some()
            && name.is_none_or(|name| object["metadata"]["name"] == name)
    };
    whole.iter().find(fits).unwrap_or_else(|| panic!("no whole object has the place of {rule:?}"))
}

/// Why the API server refuses an object; nothing, if it takes it.
async fn why_refused(test: &TestNamespace, object: &Value) -> Vec<StatusCause> {
    let refusal = test.rehearse(object).await.err();
    let causes = refusal.and_then(|refusal| refusal.details).map(|details| details.causes).unwrap_or_default();
    causes.into_iter().filter(|cause| !cause.message.contains(NOT_CHECKED)).collect()
}

#[tokio::test]
async fn every_default_of_the_schemas_is_filled_in_and_nothing_else() {
    let test = TestNamespace::new("defaults").await;
    let definitions = definitions();
    let mut shown = 0;
    for definition in &definitions {
        let kind = &definition["spec"]["names"]["kind"];
        let mut filled = Vec::new();
        for least in documents(LEAST).iter().filter(|least| least["kind"] == *kind) {
            let mut expected = least.clone();
            fill_in(schema_of(definition), "", &mut expected, &mut filled);
            let made = test.rehearse(least).await.expect("the API server takes it");
            assert_eq!(made["spec"], expected["spec"], "{least:#}");
        }
        let defaults = defaults_of(definition);
        shown += defaults.len();
        let missing: Vec<_> = defaults.iter().filter(|path| !filled.contains(path)).collect();
        assert!(missing.is_empty(), "no {kind} shows {missing:?}");
    }
    assert!(shown > 15, "{shown} defaults");
}
