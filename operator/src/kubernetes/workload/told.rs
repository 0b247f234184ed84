//! What Events tell of a pod or a workload, and what of that is still true. I/O: [`still_told`] lists Events; the rest is pure. Called by `workload`.
//!
//! Two probes of a pod that fail, or two of its volumes that are not there, are told of by turns. So it is not the newest Event that counts, but the newest one of
//! each thing that they are about.

use std::{cmp::Reverse, collections::BTreeSet, mem};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kql::secrets::redacted;
use kube::{Api, Client, api::ListParams};

use super::each_page;
use crate::kubernetes::{child::Owner, context::version_of};

/// An Event that is older by more than the newest of all counts no more. A kubelet writes one in five minutes about a pod that is in trouble for long.
const FRESH: SignedDuration = SignedDuration::from_secs(900);
/// So many are looked at, and so many are told.
const MOST_LOOKED_AT: usize = 250;
const MOST_TOLD: usize = 3;

/// What is before the words of an Event that a recorder counts for others, too.
const COMBINED: &str = "(combined from similar events): ";

/// What an Event says, without secrets.
pub(super) fn words(event: &Event) -> String {
    let words = event.message.as_deref().unwrap_or_default();
    redacted(words.strip_prefix(COMBINED).unwrap_or(words))
}

/// The Events that a field selector selects and that are still true, in the order of what they are about.
///
/// # Errors
/// If they cannot be listed.
pub(super) async fn still_told(client: &Client, owner: &Owner, fields: &str) -> Result<Vec<Event>, kube::Error> {
    let events: Api<Event> = Api::namespaced(client.clone(), &owner.namespace);
    let mut told: Vec<Event> = Vec::new();
    each_page(&events, ListParams::default().fields(fields), |page| {
        told.extend(page);
        // Its times are whole seconds, and several of one look of a controller have the same.
        told.sort_by_key(|event| Reverse(version_of(&event.metadata)));
        let mut known = BTreeSet::new();
        told.retain(|event| known.insert(subject(event)));
        told.truncate(MOST_LOOKED_AT);
        true
    })
    .await?;
    Ok(fresh(told))
}

/// Those of the newest and of about its time, of which the newest comes first.
fn fresh(mut told: Vec<Event>) -> Vec<Event> {
    let newest = told.first().and_then(time);
    let mut is_first = true;
    told.retain(|event| {
        let age = newest.zip(time(event)).map(|(newest, time)| newest.duration_since(time));
        mem::take(&mut is_first) || age.is_some_and(|age| age <= FRESH)
    });
    told.sort_by_cached_key(subject);
    told.truncate(MOST_TOLD);
    told
}

/// What an Event is about: which container, why, and its words up to what differs from try to try.
fn subject(event: &Event) -> (String, String, String) {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let words = words(event);
    let about = words.split_once(':').map_or(words.as_str(), |(about, _)| about);
    (text(&event.involved_object.field_path), text(&event.reason), about.to_owned())
}

/// When it was told last.
fn time(event: &Event) -> Option<Timestamp> {
    let last = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let last = last.or(event.event_time.as_ref()).map(|time| time.0);
    event.last_timestamp.as_ref().map(|time| time.0).max(last)
}
