//! An object that cannot be read, as its fields have other types than its kind's: its status and an Event say which, and what is made for it stays as it is until a person has
//! mended it. One that is suspended as well says that, as any other does. I/O: the API server; one merge patch of the status, only where that says something else.
//!
//! No server-side apply, which an API server refuses while the object that it is for has a value of a wrong type.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api,
    api::{PartialObjectMeta, Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::json;
use shared::runtime::chain;

use super::{
    child::{FIELD_MANAGER, Owner},
    conditions::{SUSPENDED, is_ours, shortened},
    context::Context,
    criteria,
    events::{event, news, publish},
    managed::Managed,
    reconcile::{Outcome, ReconcileError, finish},
    stored::{Stored, Unreadable},
};

/// Tells, or finishes what is being deleted. When it is to be looked at again, besides when it changes.
///
/// # Errors
/// [`ReconcileError`]
pub(crate) async fn reconcile_unreadable<K: Managed>(
    unreadable: &Arc<Unreadable<K>>,
    owner: &Owner,
    context: &Context,
) -> Result<(Outcome, Option<Duration>), ReconcileError> {
    if unreadable.metadata.deletion_timestamp.is_some() {
        return Ok((Outcome::CleanedUp, finish::<K>(&unreadable.metadata, owner, context).await?));
    }
    let outcome =
        if is_elsewhere(unreadable, context) { Outcome::NotMine } else { tell(unreadable, owner, context).await? };
    Ok((outcome, None))
}

/// Has the status say what is wrong, or an Event, where the status may not. Of one that is suspended it says that alone.
async fn tell<K: Managed>(
    unreadable: &Arc<Unreadable<K>>,
    owner: &Owner,
    context: &Context,
) -> Result<Outcome, ReconcileError> {
    let outcome = if unreadable.is_suspended { Outcome::Suspended } else { Outcome::Invalid };
    let told = unreadable.told(Timestamp::now());
    if unreadable.says(&told) {
        return Ok(outcome);
    }
    let why = unreadable.broken();
    let (kind, namespace, name) = (K::KIND.as_str(), owner.namespace.as_str(), owner.name.as_str());
    let note = match write(unreadable, told, owner, context).await {
        Ok(()) => news(&unreadable.conditions, &why),
        // Deleted since we looked.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(outcome),
        // Another by now.
        Err(kube::Error::Api(status)) if status.code == 409 => return Ok(Outcome::Failed),
        // A rule of the definition that the very value breaks, or cannot be asked of it, refuses every write.
        Err(error) if is_refusal(&error) => {
            let unsaid = if unreadable.is_suspended { SUSPENDED } else { why.message.as_str() };
            let is_new = context.is_new_refusal(owner, unsaid);
            if is_new {
                let error = chain(&error);
                tracing::warn!(
                    kind,
                    namespace,
                    name,
                    error,
                    "the API server does not let the status say what is wrong"
                );
            }
            is_new.then(|| event(EventType::Warning, &why.reason, &why.message, None))
        }
        Err(error) => return Err(ReconcileError::Status(error)),
    };
    if let Some(note) = note.filter(|_| !unreadable.is_suspended) {
        let error = shortened(&why.message);
        tracing::error!(kind, namespace, name, error, "an object cannot be read and is left as it is");
        publish(&Stored::Unreadable(Arc::clone(unreadable)), context, &note).await;
    }
    Ok(outcome)
}

/// Whether it is another operator's, as far as that can be read. That it is suspended comes before, as of any object.
fn is_elsewhere<K: Managed>(unreadable: &Unreadable<K>, context: &Context) -> bool {
    let criteria = unreadable.rest.as_ref().filter(|_| !unreadable.is_suspended).map(|rest| rest.criteria());
    criteria.is_some_and(|criteria| {
        criteria::is_met(criteria.unwrap_or_default(), &context.settings.cluster_labels) == Ok(false)
    })
}

/// Writes the conditions in place of ours. What else a status says stays.
async fn write<K: Managed>(
    unreadable: &Unreadable<K>,
    told: Vec<Condition>,
    owner: &Owner,
    context: &Context,
) -> Result<(), kube::Error> {
    let others = unreadable.conditions.iter().filter(|condition| !is_ours(&condition.type_)).cloned();
    let conditions: Vec<Condition> = others.chain(told).collect();
    let patch = json!({
        "metadata": {"resourceVersion": unreadable.metadata.resource_version},
        "status": {"conditions": conditions, "observedGeneration": unreadable.metadata.generation},
    });
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(context.client.clone(), &owner.namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&owner.name, &params, &Patch::Merge(&patch)).await.map(drop)
}

/// Whether the API server finds the object invalid.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}
