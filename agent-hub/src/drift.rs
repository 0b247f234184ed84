//! How our agents left their objects on the hub, so that a repair of what somebody else did is told from work of our own. Pure; what is known of it is recorded in our table of objects, so that a
//! process that has just started knows it, too.
//!
//! What a change leads to is recorded before it is made, beside what is there, and afterwards alone: whoever starts between the two takes neither for somebody's doing. What is new is recorded when it
//! is there, and what is to go before it goes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use jiff::Timestamp;
use kql::{
    names::{DatabaseName, EntityGroupName, FunctionName, TableName},
    statements::{Entity, PutFunction},
};
use sha2::{Digest as _, Sha256};

use crate::{
    apply::Applied,
    hub::{ExistingGroup, Hub, MemberSet, Written},
    plan::{Change, PutCause},
};

/// So many rows may tell of objects before none is recorded anew: partitions choose names, and may choose others with each beat. Of what changes from then on is recorded that it is not known.
const MOST_ROWS: usize = 1_000_000;

/// So many contents one object may have at once, as copies of a group in databases that cannot be read: with more it counts as not known.
const MOST_CONTENTS: usize = 16;

/// Something of ours on the hub.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// Its copy in a hub database, which has no content of its own.
    Group(EntityGroupName, DatabaseName),
    /// What its copies in all hub databases list.
    Members(EntityGroupName),
    /// Its content is all that somebody may edit, as the hub tells it.
    Function(FunctionName, DatabaseName),
    /// In the heartbeat database; its content is the commands that make it.
    Table(TableName),
}

impl Object {
    /// As the table of objects names it: its database, where it may be in several, kind and name.
    fn recorded(&self) -> (&str, &'static str, &str) {
        match self {
            Self::Group(name, database) => (database.as_str(), "Group", name.as_str()),
            Self::Members(name) => ("", "Members", name.as_str()),
            Self::Function(name, database) => (database.as_str(), "Function", name.as_str()),
            Self::Table(name) => ("", "Table", name.as_str()),
        }
    }

    /// From what is recorded; none for what this version does not record.
    fn from_record(database: &str, kind: &str, name: &str) -> Option<Self> {
        match kind {
            "Group" => Some(Self::Group(EntityGroupName::new(name).ok()?, DatabaseName::new(database).ok()?)),
            "Members" => EntityGroupName::new(name).ok().map(Self::Members),
            "Function" => Some(Self::Function(FunctionName::new(name).ok()?, DatabaseName::new(database).ok()?)),
            "Table" => TableName::new(name).ok().map(Self::Table),
            _ => None,
        }
    }
}

/// Tells contents apart. Short, as a partition that joins changes many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content(u32);

impl Content {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let digest = Sha256::digest(text);
        Self(digest.iter().take(4).fold(0, |hash, byte| hash << 8 | u32::from(*byte)))
    }

    /// Of a function as the hub has it.
    pub fn of_function(docstring: &str, Written { folder, content_hash }: &Written) -> Self {
        Self::of(&format!("{content_hash} {folder}\n{docstring}"))
    }

    /// Of members, whose databases have one content in any spelling.
    fn of_members(members: &BTreeSet<Entity>) -> Self {
        let mut text = String::new();
        for Entity { cluster, database } in members {
            writeln!(text, "{cluster} {}", database.key()).expect("a text takes all");
        }
        Self::of(&text)
    }
}

/// Objects with the contents that our agents gave them: one, but where copies of a group differ, or a change is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left(BTreeMap<Object, Vec<Content>>);

impl Left {
    /// Takes in a row of the table of objects: database, kind, name, contents. Rows that nobody understands any more are as good as none.
    pub fn read(&mut self, database: &str, kind: &str, name: &str, contents: &str) {
        let contents: Result<Vec<_>, _> =
            contents.split_whitespace().map(|hash| u32::from_str_radix(hash, 16).map(Content)).collect();
        let (Some(object), Ok(contents)) = (Object::from_record(database, kind, name), contents) else { return };
        if contents.is_empty() != matches!(object, Object::Group(..)) {
            return;
        }
        self.0.insert(object, contents);
    }

    /// Whether our agents left this, with other contents than this one.
    fn differs(&self, object: &Object, content: Content) -> bool {
        self.0.get(object).is_some_and(|contents| !contents.contains(&content))
    }

    fn has(&self, object: &Object) -> bool {
        self.0.contains_key(object)
    }

    fn add(&mut self, object: Object, contents: &[Content]) {
        let all = self.0.entry(object).or_default();
        all.extend(contents);
        all.sort_unstable();
        all.dedup();
    }

    /// What is known of an object, if anything is.
    fn add_known(&mut self, known: &Self, object: Object) {
        if let Some(contents) = known.0.get(&object) {
            self.add(object, contents);
        }
    }
}

/// Lines for the table of objects, one for each that they tell of.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// Each with its end.
    pub text: String,
    /// What is recorded once they are written.
    recorded: Left,
    objects: BTreeSet<Object>,
}

/// What one process knows, and what of it is recorded. Lives as long as the process.
#[derive(Debug, Default)]
pub struct Drift {
    known: Left,
    recorded: Left,
    /// Of these it is not known what is recorded: what was written of them may have been stored, though the hub's answer was lost.
    unclear: BTreeSet<Object>,
    /// What the last pass failed to remove.
    leaving: BTreeSet<Object>,
    /// How many rows the record has.
    rows: usize,
    /// Whether the record was read, or there was none.
    is_recalled: bool,
    /// Contents of members that are known: most groups are in every database, and change seldom.
    members: HashMap<usize, (MemberSet, Content)>,
}

impl Drift {
    /// Whether this process knows what was recorded before it.
    pub const fn is_recalled(&self) -> bool {
        self.is_recalled
    }

    /// Begins with what is recorded, in so many rows.
    pub fn begin(&mut self, recorded: Left, rows: usize) {
        *self = Self { known: recorded.clone(), recorded, rows, is_recalled: true, ..Self::default() };
    }

    /// What is recorded now, as another agent may have written since: what it has made of our objects, or removed, is nobody else's doing. Where all of it is gone, what is known is recorded anew.
    pub fn read_again(&mut self, recorded: Left, rows: usize) {
        if rows > 0 {
            for object in self.recorded.0.keys().filter(|object| !recorded.has(object)) {
                self.known.0.remove(object);
            }
            for (object, contents) in &recorded.0 {
                if self.recorded.0.get(object) != Some(contents) && self.known.has(object) {
                    self.known.add(object.clone(), contents);
                }
            }
        }
        (self.recorded, self.rows) = (recorded, rows);
        self.unclear.clear();
    }

    /// What is changed as in a repair by what this process knows, and not by what is there alone.
    pub fn suspects(&self, hub: &Hub, changes: &[Change]) -> BTreeSet<Object> {
        let suspects = changes.iter().filter(|change| !shows_edit(change) && self.repair(hub, change).is_some());
        suspects.flat_map(|change| [place_of(change), object_of(change)]).collect()
    }

    /// The same as [`read_again`](Self::read_again), before such changes. Of what this process could not record, another agent knows nothing, and may have removed it.
    pub fn take_in(&mut self, suspects: &BTreeSet<Object>, recorded: Left, rows: usize) {
        self.read_again(recorded, rows);
        for object in suspects.iter().filter(|object| !self.recorded.has(object)) {
            self.known.0.remove(object);
        }
    }

    /// Whether a table of ours was left with this content.
    pub fn has_table(&self, table: &TableName, content: Content) -> bool {
        self.known.0.get(&Object::Table(table.clone())).is_some_and(|contents| contents.contains(&content))
    }

    /// A table of ours is about to get this content. Until it has, whoever asks for what it had must not find that this is how it was left.
    pub fn table_changes(&mut self, table: &TableName, content: Content) {
        if !self.has_table(table, content) {
            self.known.0.remove(&Object::Table(table.clone()));
        }
    }

    /// A table of ours has this content.
    pub fn table_is_right(&mut self, table: &TableName, content: Content) {
        self.known.0.insert(Object::Table(table.clone()), vec![content]);
    }

    /// Of changes that were made, those that undo somebody's, in sentences.
    pub fn repairs(&self, hub: &Hub, applied: &[Applied]) -> Vec<String> {
        let done = applied.iter().filter(|applied| applied.result.is_ok());
        done.filter_map(|applied| self.repair(hub, &applied.change)).collect()
    }

    fn repair(&self, hub: &Hub, change: &Change) -> Option<String> {
        let known = &self.known;
        let (what, happened) = match change {
            Change::CreateGroup { .. } if known.has(&place_of(change)) => {
                ("entity group", "was removed by somebody and is made again")
            }
            // Of a copy that is not known, others may have left what only this one still lists.
            Change::AlterGroup { before, .. }
                if known.has(&place_of(change)) && known.differs(&object_of(change), Content::of_members(before)) =>
            {
                ("entity group", "was changed by somebody and is put back")
            }
            Change::PutFunction { cause: PutCause::Missing, .. } if known.has(&object_of(change)) => {
                ("function", "was removed by somebody and is made again")
            }
            Change::PutFunction { function, .. }
                if existing_content(hub, function)
                    .is_some_and(|content| known.differs(&object_of(change), content))
                    || (shows_edit(change) && !known.has(&object_of(change))) =>
            {
                ("function", "was edited by somebody and is put back")
            }
            _ => return None,
        };
        let object = place_of(change);
        let (database, _, name) = object.recorded();
        Some(format!("the {what} '{name}' in '{database}' {happened}"))
    }

    /// What is to be recorded before these changes are made, if anything is.
    pub fn before(&mut self, changes: &[Change], now: Timestamp) -> Option<Lines> {
        if changes.is_empty() {
            return None;
        }
        let mut next = self.known.clone();
        for change in changes {
            let (place, object) = (place_of(change), object_of(change));
            match self.content(change) {
                Some(content) if next.has(&object) => next.add(object, &[content]),
                // It is there once it is made.
                Some(_) if is_new(change) => {}
                // Another agent may have recorded what this process does not know.
                Some(_) => drop(self.unclear.insert(object)),
                None => {
                    next.0.remove(&place);
                    // Once, however often the hub refuses.
                    if !self.leaving.contains(&place) {
                        self.unclear.insert(place);
                    }
                }
            }
        }
        self.lines(&next, now)
    }

    /// Takes in what is there now: what was seen, and what was changed since. Of a database that could not be read, what was known. `uncertain`: databases of which it is not known what all is wanted,
    /// so that nothing is done about some of what is there, or is not. `waiting`: changes that are not tried yet.
    pub fn remember(&mut self, hub: &Hub, uncertain: &BTreeSet<DatabaseName>, applied: &[Applied], waiting: &[Change]) {
        let mut next = Left::default();
        // Of these, what was seen is out of date.
        let mut changed = BTreeSet::new();
        self.leaving.clear();
        for Applied { change, result } in applied {
            let (place, object) = (place_of(change), object_of(change));
            let Some(content) = self.content(change) else {
                // Also where the hub refused: it is to go, and that it is not there is no news any more.
                if result.is_err() {
                    self.leaving.insert(place.clone());
                }
                changed.insert(place);
                continue;
            };
            let was_known = self.known.has(&object);
            if result.is_ok() || was_known || !is_new(change) {
                next.add(object.clone(), &[content]);
            }
            if result.is_err() {
                // It is as it was, or the answer is what was lost.
                next.add_known(&self.known, object);
            }
            if result.is_ok() || shows_edit(change) || (was_known && self.known.has(&place)) {
                // What somebody made of it stays somebody's, until it is put right.
                next.add(place.clone(), &[]);
                changed.insert(place);
            }
        }
        for place in waiting.iter().map(place_of) {
            next.add_known(&self.known, place.clone());
            changed.insert(place);
        }
        self.see(hub, uncertain, &changed, &mut next);
        let crowded = next.0.extract_if(.., |_, contents| contents.len() > MOST_CONTENTS);
        let crowded: BTreeSet<Object> = crowded.map(|(object, _)| object).collect();
        if !crowded.is_empty() {
            // Nor is it known of any copy how it was left.
            next.0.retain(|object, _| match object {
                Object::Group(group, _) => !crowded.contains(&Object::Members(group.clone())),
                _ => true,
            });
        }
        self.known = next;
        self.members.retain(|_, (members, _)| Arc::strong_count(members) > 1);
    }

    /// What was seen of objects that were not changed.
    fn see(&mut self, hub: &Hub, uncertain: &BTreeSet<DatabaseName>, changed: &BTreeSet<Object>, next: &mut Left) {
        let mut unread = BTreeSet::new();
        for (database, present) in &hub.databases {
            let Ok(groups) = &present.groups else {
                unread.insert(database);
                continue;
            };
            for (group, existing) in groups {
                let ExistingGroup::Members(members) = existing else { continue };
                let place = Object::Group(group.clone(), database.clone());
                if !changed.contains(&place) && hub.owns(database, group, existing) {
                    next.add(place, &[]);
                    next.add(Object::Members(group.clone()), &[self.content_of(members)]);
                }
            }
            for (function, existing) in present.functions.iter().filter(|(_, function)| function.is_ours()) {
                let object = Object::Function(function.clone(), database.clone());
                let content = Content::of_function(&existing.docstring, &existing.written);
                // One that differs may be somebody's, and was perhaps not judged.
                if uncertain.contains(database) && self.known.differs(&object, content) {
                    continue;
                }
                if !changed.contains(&object) {
                    next.add(object, &[content]);
                }
            }
        }
        let is_uncertain = !uncertain.is_empty();
        for object in self.known.0.keys().filter(|object| !changed.contains(object)) {
            let is_kept = match object {
                Object::Group(_, database) => {
                    unread.contains(database) || (is_uncertain && hub.databases.contains_key(database))
                }
                Object::Members(_) => !unread.is_empty() || (is_uncertain && !next.has(object)),
                Object::Function(_, database) => unread.contains(database) || uncertain.contains(database),
                Object::Table(_) => true,
            };
            if is_kept {
                next.add_known(&self.known, object.clone());
            }
        }
    }

    /// What is known and not recorded, if anything is.
    pub fn to_record(&self, now: Timestamp) -> Option<Lines> {
        self.lines(&self.known, now)
    }

    /// Those were written.
    pub fn is_recorded(&mut self, lines: Lines) {
        self.rows += lines.objects.len();
        self.unclear.retain(|object| !lines.objects.contains(object));
        self.recorded = lines.recorded;
    }

    /// Those were not written, or the answer was lost.
    pub fn may_be_recorded(&mut self, lines: Lines) {
        self.rows += lines.objects.len();
        self.unclear.extend(lines.objects);
    }

    /// From what is recorded to this.
    fn lines(&self, next: &Left, now: Timestamp) -> Option<Lines> {
        // What a pass at rest comes to.
        if *next == self.recorded && self.unclear.is_empty() {
            return None;
        }
        let mut lines = Lines { text: String::new(), recorded: self.recorded.clone(), objects: BTreeSet::new() };
        let gone = self.recorded.0.keys().chain(&self.unclear).filter(|object| !next.has(object));
        gone.for_each(|object| lines.add(object, None, now));
        for (object, contents) in &next.0 {
            let was_recorded = self.recorded.0.get(object);
            if was_recorded == Some(contents) && !self.unclear.contains(object) {
                continue;
            }
            if self.rows + lines.objects.len() < MOST_ROWS {
                lines.add(object, Some(contents), now);
            } else if was_recorded.is_some() || self.unclear.contains(object) {
                lines.add(object, None, now);
            }
        }
        (!lines.objects.is_empty()).then_some(lines)
    }

    /// What has the content that a change gives to an object; none where it takes one away.
    fn content(&mut self, change: &Change) -> Option<Content> {
        match change {
            Change::CreateGroup { members, .. } | Change::AlterGroup { members, .. } => Some(self.content_of(members)),
            Change::PutFunction { function, .. } => {
                Some(Content::of_function(&function.docstring(), &Written::of(function)))
            }
            Change::DropGroup { .. } | Change::DropFunction { .. } => None,
        }
    }

    /// Of members, computed once as long as some group has them.
    fn content_of(&mut self, members: &MemberSet) -> Content {
        let known = self.members.entry(Arc::as_ptr(members).addr());
        known.or_insert_with(|| (Arc::clone(members), Content::of_members(members))).1
    }
}

impl Lines {
    /// Without contents: it is not known how the object was left.
    fn add(&mut self, object: &Object, contents: Option<&Vec<Content>>, now: Timestamp) {
        let (database, kind, name) = object.recorded();
        let state = if contents.is_some() { "Left" } else { "Unknown" };
        let hashes: Vec<String> = contents.into_iter().flatten().map(|Content(hash)| format!("{hash:08x}")).collect();
        // As in records of groups, names hold nothing that CSV has to escape; the quotes keep blanks at their ends.
        let database = if database.is_empty() { String::new() } else { format!("\"{database}\"") };
        let hashes = hashes.join(" ");
        // To the second, for people: the newest record is the one that came last.
        let line = format!("{},{database},{kind},\"{name}\",{state},{hashes}\n", now.strftime("%FT%TZ"));
        self.text.push_str(&line);
        match contents {
            Some(contents) => drop(self.recorded.0.insert(object.clone(), contents.clone())),
            None => drop(self.recorded.0.remove(object)),
        }
        self.objects.insert(object.clone());
    }
}

/// Whether a change makes what was not there.
const fn is_new(change: &Change) -> bool {
    matches!(change, Change::CreateGroup { .. } | Change::PutFunction { cause: PutCause::Missing, .. })
}

/// What a change is made to.
fn place_of(change: &Change) -> Object {
    match change {
        Change::CreateGroup { database, group, .. }
        | Change::AlterGroup { database, group, .. }
        | Change::DropGroup { database, group } => Object::Group(group.clone(), database.clone()),
        Change::PutFunction { function, .. } => Object::Function(function.function.clone(), function.database.clone()),
        Change::DropFunction { database, function } => Object::Function(function.clone(), database.clone()),
    }
}

/// What has the content that it is made with.
fn object_of(change: &Change) -> Object {
    match place_of(change) {
        Object::Group(group, _) => Object::Members(group),
        place => place,
    }
}

/// Whether a change undoes what is somebody's by what is there alone: a docstring that is as it should be tells that our agents put the rest of the function, too.
const fn shows_edit(change: &Change) -> bool {
    matches!(change, Change::PutFunction { cause: PutCause::Edited, .. })
}

/// Of a function that is there.
fn existing_content(hub: &Hub, function: &PutFunction) -> Option<Content> {
    let existing = hub.databases.get(&function.database)?.functions.get(&function.function)?;
    Some(Content::of_function(&existing.docstring, &existing.written))
}

#[cfg(test)]
mod tests;
