//! The mark that ends the docstring of a function of ours: which agent put it, under which name, with which content. Pure; called by the functions' commands and
//! by whoever reads a hub.

use crate::{
    names::{DatabaseName, FunctionName},
    statements::short_hash,
};

const START: &str = " [adx-federation ";

/// How much of the name's hash the mark shows.
const NAME_DIGITS: usize = 8;

/// ` [adx-federation FleetDiscovery 0b5e8c1d-40b1a7db6057f1fedac9b9e3]`: the agent's heartbeat database, then hashes of the function's name and of its content.
pub(super) fn mark(keeper: &DatabaseName, function: &FunctionName, content: &str) -> String {
    format!("{START}{keeper} {}-{content}]", name_hash(function))
}

/// The heartbeat database of the hub agent that keeps a function, by the function's docstring. `None` for a function of a person; also for a copy of one of ours
/// under another name, which takes the docstring along.
pub fn keeper_of(function: &FunctionName, docstring: &str) -> Option<DatabaseName> {
    let (_, mark) = docstring.rsplit_once(START)?;
    let (keeper, hashes) = mark.strip_suffix(']')?.rsplit_once(' ')?;
    let (name, content) = hashes.split_once('-')?;
    let is_content = (16..=64).contains(&content.len()) && content.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_content && name == name_hash(function)).then(|| DatabaseName::new(keeper).ok()).flatten()
}

fn name_hash(function: &FunctionName) -> String {
    let mut hash = short_hash([function.as_str()]);
    hash.truncate(NAME_DIGITS);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_ours_by_its_mark_under_its_own_name_only() {
        let name = |text: &str| FunctionName::new(text).unwrap();
        let keeper = DatabaseName::new("Fleet Discovery-1").unwrap();
        let requests = name("federated_Requests");
        let docstring = format!("Requests of every partition{}", mark(&keeper, &requests, "40b1a7db6057f1fedac9b9e3"));
        assert_eq!(
            docstring,
            "Requests of every partition [adx-federation Fleet Discovery-1 2316cbd0-40b1a7db6057f1fedac9b9e3]"
        );
        assert_eq!(keeper_of(&requests, &docstring), Some(keeper));
        assert_eq!(keeper_of(&name("MyRequests"), &docstring), None, "a copy");
        let spoilt = docstring.replace("40b1", "xyzw");
        let (more, short) = (format!("{docstring} and more"), docstring.replace("40b1a7db6057f1fe", ""));
        for other in [
            "",
            "Requests",
            "mine [adx-federation x]",
            &spoilt,
            &more,
            &short,
            "x [adx-federation 0123456789abcdef01234567]",
        ] {
            assert_eq!(keeper_of(&requests, other), None, "{other}");
        }
    }
}
