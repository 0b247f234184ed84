//! For each rule an object that keeps all of them, and the same with that one broken. No I/O.
//!
//! Also of the operator's own tests, as are the objects and the rules: what the API server refuses it refuses, too.

use serde_json::Value;

use super::{
    objects::{Breach, breaches},
    rules::{Rule, patch},
};

/// The one of these objects in which a rule is to be broken, and that object with the rule broken.
///
/// # Panics
/// If nobody knows how to break the rule, or no object has its place.
pub(super) fn broken<'a>(rule: &Rule, whole: &'a [Value]) -> (&'a Value, Value) {
    let breach = breach_of(rule);
    let object = whole_object(rule, breach.as_ref(), whole);
    let mut broken = object.clone();
    match &breach {
        Some(breach) => patch(broken.pointer_mut(&rule.pointer()).expect("it was looked for"), &breach.patch),
        None => rule.break_in(&mut broken),
    }
    (object, broken)
}

/// What breaks a rule in CEL; there must be something.
fn breach_of(rule: &Rule) -> Option<Breach> {
    let is_in_cel = rule.key == "x-kubernetes-validations";
    let breach = breaches().into_iter().find(|breach| is_in_cel && rule.message().starts_with(breach.message));
    assert!(breach.is_some() == is_in_cel, "nobody knows how to break {rule:?}");
    breach
}

fn whole_object<'a>(rule: &Rule, breach: Option<&Breach>, whole: &'a [Value]) -> &'a Value {
    let name = breach.and_then(|breach| breach.object);
    let fits = |object: &&Value| {
        object["kind"] == rule.kind.as_str()
            && object.pointer(&rule.pointer()).is_some()
            && name.is_none_or(|name| object["metadata"]["name"] == name)
    };
    whole.iter().find(fits).unwrap_or_else(|| panic!("no whole object has the place of {rule:?}"))
}
