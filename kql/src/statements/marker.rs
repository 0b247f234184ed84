//! The mark that ends the docstring of a function of ours: which agent put it, under which name, with which content. Pure; called by the functions' commands and
//! by whoever reads a hub.

use crate::{
    names::{DatabaseName, FunctionName},
    statements::short_hash,
};

const START: &str = " [adx-federation ";

/// How much of the place's hash the mark shows.
const PLACE_DIGITS: usize = 8;

/// ` [adx-federation FleetDiscovery 0b5e8c1d-40b1a7db6057f1fedac9b9e3]`: the agent's heartbeat database, then hashes of the function's place and of its content.
pub(super) fn mark(keeper: &DatabaseName, database: &DatabaseName, function: &FunctionName, content: &str) -> String {
    format!("{START}{keeper} {}-{content}]", place_hash(database, function))
}

/// The heartbeat database of the hub agent that keeps a function, by the function's docstring. `None` for a function of a person; also for a copy of one of ours
/// under another name or in another database, which takes the docstring along.
pub fn keeper_of(database: &DatabaseName, function: &FunctionName, docstring: &str) -> Option<DatabaseName> {
    let (_, mark) = docstring.rsplit_once(START)?;
    let (keeper, hashes) = mark.strip_suffix(']')?.rsplit_once(' ')?;
    let (place, content) = hashes.split_once('-')?;
    let is_content = (16..=64).contains(&content.len()) && content.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_content && place == place_hash(database, function)).then(|| DatabaseName::new(keeper).ok()).flatten()
}

fn place_hash(database: &DatabaseName, function: &FunctionName) -> String {
    let mut hash = short_hash([&*database.key(), function.as_str()]);
    hash.truncate(PLACE_DIGITS);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_ours_by_its_mark_in_its_own_place_only() {
        let name = |text: &str| FunctionName::new(text).unwrap();
        let database = |text: &str| DatabaseName::new(text).unwrap();
        let (keeper, logs, requests) = (database("Fleet Discovery-1"), database("Logs"), name("federated_Requests"));
        let mark = mark(&keeper, &logs, &requests, "40b1a7db6057f1fedac9b9e3");
        assert!(
            mark.starts_with(" [adx-federation Fleet Discovery-1 ") && mark.ends_with("-40b1a7db6057f1fedac9b9e3]")
        );
        let docstring = format!("Requests of every partition{mark}");
        assert_eq!(keeper_of(&database("LOGS"), &requests, &docstring), Some(keeper));
        assert_eq!(keeper_of(&logs, &name("MyRequests"), &docstring), None, "a copy");
        assert_eq!(keeper_of(&database("Scratch"), &requests, &docstring), None, "a copy elsewhere");
        let spoilt = docstring.replace("40b1", "xyzw");
        let (more, short) = (format!("{docstring} and more"), docstring.replace("40b1a7db6057f1fe", ""));
        let old = "x [adx-federation 0123456789abcdef01234567]";
        for other in ["", "Requests", "mine [adx-federation x]", &spoilt, &more, &short, old] {
            assert_eq!(keeper_of(&logs, &requests, other), None, "{other}");
        }
    }
}
