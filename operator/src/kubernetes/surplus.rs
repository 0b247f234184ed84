//! What a status does not say any more, and is there all the same. What we apply takes away what we alone had applied before. But the API server forgets whose everything is
//! where it stores an object whose types do not fit its definition, and calls it others'; and anyone may write a status. I/O: one merge patch, where there is such a thing.

use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Map, Value, json};

use super::{child::FIELD_MANAGER, conditions::is_ours};

/// The fields of a status that are the operator's alone.
const FIELDS: [&str; 4] = ["endpoint", "replicas", "provision", "appliedProvisionState"];

/// Takes away what `said` lacks of ours, from a status as it was just written. False if it is another by now.
///
/// # Errors
/// The API server's.
pub(crate) async fn take_surplus(
    api: &Api<DynamicObject>,
    written: &DynamicObject,
    said: &Value,
) -> Result<bool, kube::Error> {
    let Some(surplus) = surplus_of_status(said, &written.data["status"]) else { return Ok(true) };
    let patch = json!({"metadata": {"resourceVersion": written.metadata.resource_version}, "status": surplus});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch_status(&written.name_any(), &params, &Patch::Merge(&patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

/// The merge patch that takes it away.
fn surplus_of_status(said: &Value, there: &Value) -> Option<Value> {
    let mut patch = Map::new();
    for field in FIELDS {
        patch.extend(surplus(&said[field], &there[field]).map(|surplus| (field.to_owned(), surplus)));
    }
    let entries = |status: &Value| status["conditions"].as_array().cloned().unwrap_or_default();
    let (said, there) = (entries(said), entries(there));
    let is_wanted = |there: &Value| {
        !is_ours(there["type"].as_str().unwrap_or_default()) || said.iter().any(|said| said["type"] == there["type"])
    };
    if !there.iter().all(is_wanted) {
        let wanted: Vec<Value> = there.into_iter().filter(is_wanted).collect();
        patch.insert("conditions".to_owned(), wanted.into());
    }
    (!patch.is_empty()).then(|| patch.into())
}

/// The fields that are there and not said, as null; lists are said as a whole.
fn surplus(said: &Value, there: &Value) -> Option<Value> {
    match (said, there) {
        (_, Value::Null) => None,
        (Value::Null, _) => Some(Value::Null),
        (Value::Object(said), Value::Object(there)) => {
            let fields = there.iter().filter_map(|(name, there)| {
                Some((name.clone(), surplus(said.get(name).unwrap_or(&Value::Null), there)?))
            });
            let fields: Map<String, Value> = fields.collect();
            (!fields.is_empty()).then(|| fields.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_and_not_said_goes_and_what_is_others_stays() {
        let condition = |name: &str, status: &str| json!({"type": name, "status": status});
        let said = json!({
            "conditions": [condition("Ready", "True")], "observedGeneration": 4, "endpoint": "https://x",
            "provision": {"state": "Running", "notes": ["b"]},
        });
        let (ready, theirs) = (condition("Ready", "True"), condition("Theirs", "False"));
        let there = json!({
            "conditions": [theirs, condition("Stalled", "True"), ready], "observedGeneration": 4, "endpoint": "https://x", "replicas": 3,
            "provision": {"state": "Running", "notes": ["b"], "operation": {"what": "create"}}, "federation": {"live": "3/3"},
        });
        let expected = json!({"conditions": [theirs, ready], "replicas": null, "provision": {"operation": null}});
        assert_eq!(surplus_of_status(&said, &there), Some(expected));
        let mut only_others = said.clone();
        only_others["conditions"] = json!([ready, theirs]);
        only_others["federation"] = json!({"live": "3/3"});
        assert_eq!(surplus_of_status(&said, &only_others), None);
        // Of a server that answers nothing of it.
        assert_eq!(surplus_of_status(&said, &Value::Null), None);
    }
}
