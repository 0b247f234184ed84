//! Room for ours in an object in which somebody left none. I/O: the API server; called by `apply`, decided by [`reclaiming`].
//!
//! What makes room is no server-side apply, which takes nothing of others away. So a field manager of its own holds for a moment what is ours, and gives it up once
//! ours is there: what we want no longer one day would otherwise stay.

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::kubernetes::reclaim::reclaiming;

/// Whoever makes room.
const MANAGER: &str = "adx-federation-operator-reclaiming";

/// How often an object that changes meanwhile is looked at anew.
const TRIES: usize = 5;

/// Puts ours into an object in the place of what is there; the object then. With what others have beside ours.
///
/// # Errors
/// What the API server says, also if the object is another now.
pub(super) async fn make_room(
    api: &Api<DynamicObject>,
    desired: &Value,
    live: &DynamicObject,
) -> Result<DynamicObject, kube::Error> {
    let mut live = live.clone();
    for _ in 0..TRIES {
        let content = serde_json::to_value(&live).expect("an object is JSON");
        let Some(patch) = reclaiming(desired, &content) else { break };
        match change(api, &live, patch).await? {
            Changed::Now(changed) => return Ok(changed),
            Changed::Meanwhile(newer) => live = newer,
        }
    }
    Ok(live)
}

/// Gives up what was held to make room, if that was ever necessary.
///
/// # Errors
/// What the API server says.
pub(super) async fn give_up(api: &Api<DynamicObject>, mut object: DynamicObject) -> Result<DynamicObject, kube::Error> {
    for _ in 0..TRIES {
        let managers = object.metadata.managed_fields.iter().flatten();
        let (own, others): (Vec<_>, Vec<_>) = managers.partition(|entry| entry.manager.as_deref() == Some(MANAGER));
        if own.is_empty() {
            break;
        }
        let patch = json!({"metadata": {"managedFields": others}});
        object = match change(api, &object, patch).await? {
            Changed::Now(object) | Changed::Meanwhile(object) => object,
        };
    }
    Ok(object)
}

/// What became of a change.
enum Changed {
    Now(DynamicObject),
    /// Nothing: the object was another by then, namely this.
    Meanwhile(DynamicObject),
}

/// Changes the very object that was looked at, as it was then: lists are replaced as a whole.
async fn change(api: &Api<DynamicObject>, live: &DynamicObject, mut patch: Value) -> Result<Changed, kube::Error> {
    let name = live.metadata.name.as_deref().unwrap_or_default();
    patch["metadata"]["uid"] = json!(live.metadata.uid);
    patch["metadata"]["resourceVersion"] = json!(live.metadata.resource_version);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(name, &params, &Patch::Merge(&patch)).await {
        Ok(changed) => Ok(Changed::Now(changed)),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let newer = api.get(name).await?;
            let is_same = newer.metadata.uid == live.metadata.uid;
            if is_same { Ok(Changed::Meanwhile(newer)) } else { Err(kube::Error::Api(status)) }
        }
        Err(error) => Err(error),
    }
}
