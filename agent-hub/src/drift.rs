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
    statements::{PutFunction, members_hash},
};
use sha2::{Digest as _, Sha256};

use crate::{
    apply::Applied,
    hub::{ExistingGroup, Hub, MemberSet},
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
    /// Its content is its docstring, which has hashes of the rest.
    Function(FunctionName, DatabaseName),
    /// In the heartbeat database; its content is the commands that make it.
    Table(TableName),
}

impl Object {
    fn of(function: &PutFunction) -> Self {
        Self::Function(function.function.clone(), function.database.clone())
    }

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

/// Tells contents apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content(u64);

impl Content {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let digest = Sha256::digest(text);
        Self(digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte)))
    }

    fn of_members(members: &MemberSet) -> Self {
        Self::of(&members_hash(members))
    }
}

/// Objects with the contents that our agents gave them: one, but where copies of a group differ, or a change is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left(BTreeMap<Object, Vec<Content>>);

impl Left {
    /// Takes in a row of the table of objects: database, kind, name, contents. Rows that nobody understands any more are as good as none.
    pub fn read(&mut self, database: &str, kind: &str, name: &str, contents: &str) {
        let contents: Result<Vec<_>, _> =
            contents.split_whitespace().map(|hash| u64::from_str_radix(hash, 16).map(Content)).collect();
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

    fn add(&mut self, object: Object, content: Content) {
        self.extend(object, &[content]);
    }

    fn extend(&mut self, object: Object, more: &[Content]) {
        let contents = self.0.entry(object).or_default();
        contents.extend(more);
        contents.sort_unstable();
        contents.dedup();
    }
}

/// Lines for the table of objects.
#[derive(Debug, PartialEq, Eq)]
pub struct Lines {
    /// Each with its end.
    pub text: String,
    /// What is recorded once they are written.
    recorded: Left,
    /// How many rows the table has then.
    rows: usize,
}

/// What one process knows, and what of it is recorded. Lives as long as the process.
#[derive(Debug, Default)]
pub struct Drift {
    known: Left,
    recorded: Left,
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
        *self = Self { known: recorded.clone(), recorded, rows, is_recalled: true, members: HashMap::new() };
    }

    /// The record is gone: all that is known is to be recorded.
    pub fn is_lost(&mut self) {
        (self.recorded, self.rows) = (Left::default(), 0);
    }

    /// Whether a table of ours was left with this content.
    pub fn has_table(&self, table: &TableName, content: Content) -> bool {
        self.known.0.get(&Object::Table(table.clone())).is_some_and(|contents| contents.contains(&content))
    }

    /// A table of ours is as it should be.
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
        let (what, name, happened) = match change {
            Change::PutFunction { function, cause } => {
                let object = Object::of(function);
                let is_edited = || docstring(hub, function).is_some_and(|content| known.differs(&object, content));
                let happened = match cause {
                    PutCause::Missing if known.0.contains_key(&object) => "was removed by somebody and is made again",
                    PutCause::Edited => "was edited by somebody and is put back",
                    PutCause::Outdated if is_edited() => "was edited by somebody and is put back",
                    PutCause::Missing | PutCause::Outdated => return None,
                };
                ("function", function.function.to_string(), happened)
            }
            Change::CreateGroup { database, group, .. } => {
                known.0.get(&Object::Group(group.clone(), database.clone()))?;
                ("entity group", group.to_string(), "was removed by somebody and is made again")
            }
            Change::AlterGroup { group, before, .. } => {
                known.differs(&Object::Members(group.clone()), Content::of_members(before)).then_some(())?;
                ("entity group", group.to_string(), "was changed by somebody and is put back")
            }
            Change::DropFunction { .. } | Change::DropGroup { .. } => return None,
        };
        Some(format!("the {what} '{name}' in '{}' {happened}", change.database()))
    }

    /// What is to be recorded before these changes are made, if anything is.
    pub fn before(&mut self, hub: &Hub, changes: &[Change], now: Timestamp) -> Option<Lines> {
        if changes.is_empty() {
            return None;
        }
        let mut next = self.known.clone();
        for change in changes {
            match change {
                Change::CreateGroup { group, members, .. } => {
                    next.add(Object::Members(group.clone()), self.content(members));
                }
                Change::AlterGroup { group, members, before, .. } => {
                    let object = Object::Members(group.clone());
                    // What somebody else made of it is not recorded as ours.
                    if !self.known.0.contains_key(&object) {
                        next.add(object.clone(), Content::of_members(before));
                    }
                    next.add(object, self.content(members));
                }
                Change::PutFunction { function, cause: PutCause::Outdated } => {
                    let object = Object::of(function);
                    if !self.known.0.contains_key(&object) {
                        next.0.extend(docstring(hub, function).map(|before| (object.clone(), vec![before])));
                    }
                    next.add(object, Content::of(&function.docstring()));
                }
                // Until it is made, it is not there by our own doing.
                Change::PutFunction { .. } => {}
                Change::DropFunction { database, function } => {
                    next.0.remove(&Object::Function(function.clone(), database.clone()));
                }
                Change::DropGroup { database, group } => {
                    next.0.remove(&Object::Group(group.clone(), database.clone()));
                }
            }
        }
        self.lines(&next, now)
    }

    /// Takes in what is there now: what was seen, and what was changed since. Of a database that could not be read, what was known.
    pub fn remember(&mut self, hub: &Hub, applied: &[Applied]) {
        let mut next = Left::default();
        // Of these, what was seen is out of date.
        let (mut groups, mut functions) = (BTreeSet::new(), BTreeSet::new());
        for Applied { change, result } in applied {
            match change {
                Change::CreateGroup { database, group, members }
                | Change::AlterGroup { database, group, members, .. } => {
                    let copy = Object::Group(group.clone(), database.clone());
                    let object = Object::Members(group.clone());
                    if result.is_ok() {
                        next.0.insert(copy, Vec::new());
                        next.add(object, self.content(members));
                    } else if let Some(known) = self.known.0.get(&object) {
                        // What somebody made of it stays somebody's, until it is put right.
                        next.extend(object, known);
                        next.0.extend(self.known.0.contains_key(&copy).then_some((copy, Vec::new())));
                    } else {
                        continue;
                    }
                    groups.insert((database, group));
                }
                Change::PutFunction { function, .. } => {
                    let object = Object::of(function);
                    if result.is_ok() {
                        next.add(object, Content::of(&function.docstring()));
                    } else if let Some(known) = self.known.0.get(&object) {
                        next.extend(object, known);
                    } else {
                        continue;
                    }
                    functions.insert((&function.database, &function.function));
                }
                // Also where the hub refused: it is to go, and that it is not there is no news any more.
                Change::DropGroup { database, group } => drop(groups.insert((database, group))),
                Change::DropFunction { database, function } => drop(functions.insert((database, function))),
            }
        }
        let mut unread = BTreeSet::new();
        for (database, present) in &hub.databases {
            let Ok(present_groups) = &present.groups else {
                unread.insert(database);
                continue;
            };
            for (group, existing) in present_groups {
                let ExistingGroup::Members(members) = existing else { continue };
                if !groups.contains(&(database, group)) && hub.owns(database, group, existing) {
                    next.0.insert(Object::Group(group.clone(), database.clone()), Vec::new());
                    next.add(Object::Members(group.clone()), self.content(members));
                }
            }
            let ours = present.functions.iter().filter(|(_, function)| function.is_ours());
            for (function, existing) in ours.filter(|(name, _)| !functions.contains(&(database, *name))) {
                let object = Object::Function(function.clone(), database.clone());
                next.add(object, Content::of(&existing.docstring));
            }
        }
        for (object, contents) in &self.known.0 {
            let is_kept = match object {
                Object::Group(_, database) | Object::Function(_, database) => unread.contains(database),
                Object::Members(_) => !unread.is_empty(),
                Object::Table(_) => true,
            };
            if is_kept {
                next.extend(object.clone(), contents);
            }
        }
        next.0.retain(|_, contents| contents.len() <= MOST_CONTENTS);
        self.known = next;
        self.members.retain(|_, (members, _)| Arc::strong_count(members) > 1);
    }

    /// What is known and not recorded, if anything is.
    pub fn to_record(&self, now: Timestamp) -> Option<Lines> {
        self.lines(&self.known, now)
    }

    /// Those were written.
    pub fn is_recorded(&mut self, lines: Lines) {
        (self.recorded, self.rows) = (lines.recorded, lines.rows);
    }

    /// From what is recorded to this.
    fn lines(&self, next: &Left, now: Timestamp) -> Option<Lines> {
        // What a pass at rest comes to.
        if *next == self.recorded {
            return None;
        }
        let (mut text, mut recorded, mut rows) = (String::new(), self.recorded.clone(), self.rows);
        let mut line = |object: &Object, state: &str, contents: &[Content]| {
            let (database, kind, name) = object.recorded();
            // As in records of groups, names hold nothing that CSV has to escape.
            write!(text, "{now},\"{database}\",{kind},\"{name}\",{state},").expect("a text takes all");
            for (index, Content(hash)) in contents.iter().enumerate() {
                write!(text, "{}{hash:016x}", if index == 0 { "" } else { " " }).expect("a text takes all");
            }
            text.push('\n');
        };
        for object in self.recorded.0.keys().filter(|object| !next.0.contains_key(object)) {
            line(object, "Unknown", &[]);
            recorded.0.remove(object);
            rows += 1;
        }
        for (object, contents) in &next.0 {
            if self.recorded.0.get(object) == Some(contents) {
                continue;
            }
            if rows < MOST_ROWS {
                line(object, "Left", contents);
                recorded.0.insert(object.clone(), contents.clone());
            } else if recorded.0.remove(object).is_some() {
                line(object, "Unknown", &[]);
            } else {
                continue;
            }
            rows += 1;
        }
        (!text.is_empty()).then_some(Lines { text, recorded, rows })
    }

    /// Of members, computed once as long as some group has them.
    fn content(&mut self, members: &MemberSet) -> Content {
        let known = self.members.entry(Arc::as_ptr(members).addr());
        known.or_insert_with(|| (Arc::clone(members), Content::of_members(members))).1
    }
}

/// Of a function that is there.
fn docstring(hub: &Hub, function: &PutFunction) -> Option<Content> {
    let existing = hub.databases.get(&function.database)?.functions.get(&function.function)?;
    Some(Content::of(&existing.docstring))
}

#[cfg(test)]
mod tests;
