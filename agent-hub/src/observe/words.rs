//! What is kept of a heartbeat in its writer's words, beside its schema: attributes, and what is wrong with it. Some ten thousand partitions may be admitted, each with as much as it likes: it is
//! bounded for each, so that none takes room from another. Pure.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use shared::document::HubConfig;

/// The bytes that a partition's problems may have: those of some twenty sentences.
const MOST_OF_PROBLEMS: usize = 2 * 1024;

/// The memory that attributes may take which are only shown: some fifty of usual length.
const MOST_OF_ATTRIBUTES: usize = 4 * 1024;

/// What an attribute takes beside its name and its text.
const BYTES_OF_AN_ATTRIBUTE: usize = 64;

/// The first of them, and how many more there are.
pub(super) fn problems(all: &[String]) -> Vec<Arc<str>> {
    let mut room = MOST_OF_PROBLEMS;
    let fits = |problem: &&String| {
        let left = room.checked_sub(problem.len());
        room = left.unwrap_or(room);
        left.is_some()
    };
    let mut kept: Vec<Arc<str>> = all.iter().take_while(fits).map(|problem| Arc::from(problem.as_str())).collect();
    if kept.len() < all.len() {
        kept.push(format!("{} more problems", all.len() - kept.len()).into());
    }
    kept
}

/// Those that the document names, and as many others as there is room for; and a problem, if some have none.
pub(super) fn attributes(
    mut all: BTreeMap<String, Value>,
    config: &HubConfig,
) -> (Arc<BTreeMap<String, Value>>, Option<String>) {
    let (given, mut room) = (all.len(), MOST_OF_ATTRIBUTES);
    all.retain(|name, value| {
        if config.group_attributes.contains(name) || *name == config.membership.zone_attribute {
            return true;
        }
        let bytes = BYTES_OF_AN_ATTRIBUTE + name.len() + value.as_str().map_or(0, str::len);
        let has_room = bytes <= room;
        room -= if has_room { bytes } else { 0 };
        has_room
    });
    let left_out = given - all.len();
    let problem = (left_out > 0).then(|| {
        format!("PartitionMetadata: {left_out} of its attributes are not shown, as together they take more than {MOST_OF_ATTRIBUTES} bytes: those that entityGroups and zoneAttribute name are used")
    });
    (Arc::new(all), problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hub_config;

    #[test]
    fn problems_are_kept_to_some_bytes_and_the_rest_is_counted() {
        let few = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(problems(&few), few.iter().map(|problem| Arc::from(&**problem)).collect::<Vec<_>>());
        let full = MOST_OF_PROBLEMS / 200;
        let kept = problems(&vec!["é".repeat(100); full + 7]);
        assert_eq!((kept.len(), kept.last().map(|last| &**last)), (full + 1, Some("7 more problems")));
        assert_eq!(&*problems(&["x".repeat(MOST_OF_PROBLEMS + 1)])[0], "1 more problems");
    }

    #[test]
    fn of_many_attributes_those_are_kept_that_the_document_names() {
        let config = hub_config("entityGroups: [{by: zz-tenant}], membership: {zoneAttribute: zz-region}, ");
        let named = ["zz-region", "zz-tenant"];
        let few: BTreeMap<String, Value> =
            ["a", "b"].into_iter().chain(named).map(|name| (name.to_owned(), name.into())).collect();
        assert_eq!(attributes(few.clone(), &config), (Arc::new(few.clone()), None));
        let many = (0..60).map(|number| (format!("made-up-{number:02}"), Value::from("x".repeat(200))));
        let (kept, problem) = attributes(few.clone().into_iter().chain(many).collect(), &config);
        let bytes: usize = kept.iter().map(|(name, value)| name.len() + value.as_str().unwrap().len()).sum();
        assert!(bytes <= MOST_OF_ATTRIBUTES + 40 && few.keys().all(|name| kept.contains_key(name)), "{kept:?}");
        let told = problem.unwrap();
        assert!(told.starts_with(&format!("PartitionMetadata: {} of its attributes", 64 - kept.len())), "{told}");
    }
}
