//! How the hub writes functions' texts. Pure but for the log; what one process knows.
//!
//! One that writes them in other words than ours would look edited for ever. It is told from somebody who edits by putting such a function again: what is there before that and is there again in the
//! next look is the hub's own writing, and what is as we sent it then was somebody's. So was what has ever been seen otherwise under the same docstring, however often somebody repeats it.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use crate::{
    apply::Applied,
    drift::Content,
    hub::{ExistingFunction, Hub, Written},
    plan::{Change, PutCause},
};

/// By docstrings, each of which belongs to one text of ours.
#[derive(Debug, Default)]
pub struct Texts {
    /// How functions were written that looked edited, before the last pass put them again.
    again: BTreeMap<String, Written>,
    /// What the hub writes in words of its own.
    rewritten: BTreeMap<String, Written>,
    /// What was seen under a docstring: none where that was not always the same.
    seen: HashMap<Content, Option<Content>>,
}

impl Texts {
    /// Learns from a look at the hub, and tells it.
    pub fn learn(&mut self, hub: &mut Hub) {
        let (again, known, before) =
            (mem::take(&mut self.again), mem::take(&mut self.rewritten), mem::take(&mut self.seen));
        let functions = hub.databases.values().flat_map(|database| &database.functions);
        for (name, function) in functions.filter(|(_, function)| function.is_ours()) {
            let ExistingFunction { docstring, written, .. } = function;
            let (key, content) = (Content::of(docstring), Content::of_function(docstring, written));
            let always = before.get(&key).is_none_or(|seen| *seen == Some(content));
            self.seen.insert(key, always.then_some(content));
            let is_new = always && again.get(docstring) == Some(written);
            if is_new {
                tracing::warn!(function = %name, "the hub writes this function's text in other words than it is sent: that is left as it is");
            }
            let rewritten = if is_new { Some(written) } else { known.get(docstring) };
            self.rewritten.extend(rewritten.map(|written| (docstring.clone(), written.clone())));
        }
        hub.rewritten.clone_from(&self.rewritten);
    }

    /// Notes what was put though nothing but the text or the folder differed. `hub`: as it was before.
    pub fn note(&mut self, hub: &Hub, applied: &[Applied]) {
        for Applied { change, result } in applied {
            let Change::PutFunction { function, cause: PutCause::Edited } = change else { continue };
            let before =
                hub.databases.get(&function.database).and_then(|there| there.functions.get(&function.function));
            let before = before.filter(|_| result.is_ok());
            self.again.extend(before.map(|before| (before.docstring.clone(), before.written.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use kql::names::{DatabaseName, FunctionName};
    use serde_json::json;

    use super::*;
    use crate::{
        fleet::Fleet,
        hub::{HubDatabase, Keeper},
        membership::Membership,
        plan::{Decision, plan},
        settings::Settings,
        testing::{applied, fleet, hub_config, now},
    };

    /// A hub and one process of its agent.
    struct World {
        hub: Hub,
        fleet: Fleet,
        texts: Texts,
    }

    impl World {
        fn new() -> Self {
            let logs = (DatabaseName::new("Logs").unwrap(), HubDatabase::default());
            let fleet = fleet(&[("eu", 1, json!([{"database": "Logs", "tables": ["A", "B"]}]))]);
            Self { hub: Hub { databases: [logs].into(), ..Hub::default() }, fleet, texts: Texts::default() }
        }

        fn functions(&mut self) -> impl Iterator<Item = &mut ExistingFunction> {
            self.hub.databases.values_mut().flat_map(|database| database.functions.values_mut())
        }

        /// Why functions are put in a pass.
        fn pass(&mut self) -> Vec<PutCause> {
            let mut seen = self.hub.clone();
            self.texts.learn(&mut seen);
            let settings = Settings { status: None, ..Settings::from(&hub_config("")) };
            let decided = plan(&self.fleet, &seen, &Membership::default(), now(), &settings);
            let Decision::Apply(plan) = decided else { panic!("{decided:?}") };
            self.hub = applied(self.hub.clone(), &plan);
            let done: Vec<Applied> =
                plan.changes.into_iter().map(|change| Applied { change, result: Ok(()) }).collect();
            self.texts.note(&seen, &done);
            let cause = |Applied { change, .. }| match change {
                Change::PutFunction { cause, .. } => Some(cause),
                _ => None,
            };
            done.into_iter().filter_map(cause).collect()
        }
    }

    #[test]
    fn what_is_edited_right_after_we_put_it_is_put_back_as_often_as_that_happens() {
        let mut world = World::new();
        assert_eq!(world.pass(), [PutCause::Missing; 2]);
        for edit in ["mine", "mine too"] {
            world.functions().next().unwrap().written.content_hash = edit.to_owned();
            assert_eq!(world.pass(), [PutCause::Edited]);
        }
        assert_eq!(world.pass(), []);
        // The same each time, as a script would.
        for _ in 0..4 {
            world.functions().next().unwrap().written.content_hash = "mine".to_owned();
            assert_eq!(world.pass(), [PutCause::Edited]);
        }
    }

    #[test]
    fn a_persons_copy_of_what_they_made_of_ours_teaches_nothing() {
        let mut world = World::new();
        world.pass();
        // A process that has just started.
        world.texts = Texts::default();
        let function = world.functions().next().unwrap();
        function.written.content_hash = "mine".to_owned();
        let copy = ExistingFunction { keeper: Keeper::Person, ..function.clone() };
        let functions = &mut world.hub.databases.values_mut().next().unwrap().functions;
        functions.insert(FunctionName::new("federated_A_backup").unwrap(), copy);
        assert_eq!(world.pass(), [PutCause::Edited]);
        assert_eq!(world.pass(), []);
        assert_eq!(world.texts.rewritten, BTreeMap::new());
    }

    #[test]
    fn what_the_hub_writes_in_words_of_its_own_is_put_twice_and_then_left_and_an_edit_of_it_is_put_back() {
        let mut world = World::new();
        let rewrite = |world: &mut World, words: &str| {
            world.functions().for_each(|function| function.written.content_hash = words.to_owned());
        };
        assert_eq!(world.pass(), [PutCause::Missing; 2]);
        rewrite(&mut world, "other words");
        assert_eq!(world.pass(), [PutCause::Edited; 2]);
        for _ in 0..2 {
            rewrite(&mut world, "other words");
            assert_eq!(world.pass(), []);
        }
        world.functions().next().unwrap().written.folder = "mine".to_owned();
        assert_eq!(world.pass(), [PutCause::Edited]);
        rewrite(&mut world, "other words");
        assert_eq!(world.pass(), []);
        // With its functions, what is known of them goes.
        let functions = mem::take(&mut world.hub.databases.values_mut().next().unwrap().functions);
        assert_eq!((functions.len(), world.texts.rewritten.len()), (2, 2));
        assert_eq!(world.pass(), [PutCause::Missing; 2]);
        assert_eq!(world.texts.rewritten.len(), 0);
    }
}
