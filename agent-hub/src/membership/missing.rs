//! What a pass lacked, as `federation_status()` tells of it: databases that partitions have and the hub has not, and what could not be read or changed. Pure; called by the pass
//! when it knows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kql::names::DatabaseName;

use super::Membership;

/// The most characters of the names: the table that remembers them takes no more of one text than 512, and strangers' heartbeats name them.
const MOST_CHARS: usize = 400;

/// The most characters of the names in each list of [`Incomplete`].
const MOST_CHARS_OF_PART: usize = 150;

/// What the hub, or the last pass, lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// In words; empty where nothing is lacking.
    pub words: String,
    /// Since when it is this.
    pub since: Timestamp,
}

impl Lacking {
    fn note(&mut self, words: String, now: Timestamp) {
        if words != self.words {
            *self = Self { words, since: now };
        }
    }
}

/// What a pass could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incomplete {
    /// Databases whose groups or functions were not read.
    pub unread: BTreeSet<DatabaseName>,
    /// Databases of which the hub refused a change.
    pub unchanged: BTreeSet<DatabaseName>,
    /// How many partitions' schemas were not fetched.
    pub schemas: usize,
}

impl Incomplete {
    /// Without reasons, which differ from pass to pass.
    fn words(&self) -> String {
        let databases = |what: &str, names: &BTreeSet<DatabaseName>| {
            let names: Vec<_> = names.iter().cloned().collect();
            (!names.is_empty()).then(|| format!("{what}: {}", listed(&names, MOST_CHARS_OF_PART)))
        };
        let parts = [
            databases("databases that could not be read", &self.unread),
            databases("databases of which not all could be changed", &self.unchanged),
            (self.schemas > 0).then(|| format!("schemas that could not be read: {}", self.schemas)),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

impl Membership {
    /// Takes in which databases partitions have and the hub lacks now.
    pub fn note_missing(&mut self, databases: &[DatabaseName], now: Timestamp) {
        self.missing.note(listed(databases, MOST_CHARS), now);
    }

    /// Takes in what a pass could not do.
    pub fn note_incomplete(&mut self, incomplete: &Incomplete, now: Timestamp) {
        self.incomplete.note(incomplete.words(), now);
    }
}

/// Those names that there is room for, and how many there are besides.
fn listed(databases: &[DatabaseName], mut room: usize) -> String {
    let mut told: Vec<String> = Vec::new();
    for database in databases {
        let chars = database.as_str().chars().count() + ", ".len();
        if chars <= room {
            room -= chars;
            told.push(database.to_string());
        }
    }
    // Which there is room for depends on how many partitions have each; that alone is no news.
    told.sort();
    match databases.len() - told.len() {
        0 => {}
        more if told.is_empty() => told.push(format!("{more} with long names")),
        more => told.push(format!("{more} more")),
    }
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::testing::now;

    fn databases(names: &[&str]) -> Vec<DatabaseName> {
        names.iter().map(|name| DatabaseName::new(*name).unwrap()).collect()
    }

    #[test]
    fn what_the_hub_lacks_is_recorded_when_it_changes_and_however_much_it_is_within_bounds() {
        let mut membership = Membership::default();
        let (long, none): (_, &[&str]) = ("x".repeat(1000), &[]);
        let long = long.as_str();
        let many: Vec<String> = (0..200).map(|number| format!("Database-{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut minutes = 0;
        for (missing, told, state) in [
            (none, None, ""),
            (&["Audit", "Traces"], Some("Audit, Traces"), "active"),
            (&["Audit", "Traces"], None, ""),
            // As when more partitions have the other.
            (&["Traces", "Audit"], None, ""),
            (&["Audit", long, "Traces"], Some("Audit, Traces, 1 more"), "active"),
            (&[long, long], Some("2 with long names"), "active"),
            (&many, Some("Database-0, Database-1, Database-10, "), "active"),
            (none, Some(""), "over"),
        ] {
            minutes += 1;
            let at = now() + SignedDuration::from_mins(minutes);
            let before = membership.clone();
            membership.note_missing(&databases(missing), at);
            let lines: Vec<String> =
                membership.changed_since(&before).iter().map(|record| record.csv_line(at)).collect();
            let Some(told) = told else {
                assert_eq!(lines, [""; 0], "{missing:?}");
                continue;
            };
            let begin = format!("{at},Missing,\"databases\",{state},{at},,\"[]\",\"{told}");
            assert!(lines.len() == 1 && lines[0].starts_with(&begin), "{lines:?} does not begin with {begin}");
            assert!(membership.missing.words.chars().count() < 450, "{membership:?}");
        }
    }

    #[test]
    fn whoever_is_left_out_is_counted() {
        let names: Vec<String> = (10..100).map(|number| format!("Database-{number}")).collect();
        let told = listed(&databases(&names.iter().map(String::as_str).collect::<Vec<_>>()), MOST_CHARS);
        let (first, more) = told.rsplit_once(", ").unwrap();
        // Thirteen characters each, with what is between them, of four hundred.
        assert_eq!((first.split(", ").count(), more), (30, "60 more"), "{told}");
    }

    #[test]
    fn what_a_pass_could_not_do_is_recorded_in_words_that_stay_the_same_while_it_does() {
        let names = |names: &[String]| -> BTreeSet<DatabaseName> {
            names.iter().map(|name| DatabaseName::new(name.clone()).unwrap()).collect()
        };
        let (none, two) = (Vec::new(), ["Logs", "Metrics"].map(str::to_owned).to_vec());
        let many: Vec<String> = (0..200).map(|number| format!("{}{number}", "x".repeat(100))).collect();
        let mut membership = Membership::default();
        let told = [
            (&none, &none, 0, None),
            (
                &two,
                &two[..1].to_vec(),
                0,
                Some(
                    "active,*,,\"[]\",\"databases that could not be read: Logs, Metrics; databases of which not all could be changed: Logs\",",
                ),
            ),
            (&two, &two[..1].to_vec(), 0, None),
            (&none, &none, 3, Some("active,*,,\"[]\",\"schemas that could not be read: 3\",")),
            (&many, &many, 10_000, Some("active,*,,\"[]\",\"databases that could not be read: x")),
            (&none, &none, 0, Some("over,*,,\"[]\",\"\",")),
        ];
        for (minutes, (unread, unchanged, schemas, told)) in told.into_iter().enumerate() {
            let at = now() + SignedDuration::from_mins(i64::try_from(minutes).unwrap());
            let before = membership.clone();
            let incomplete = Incomplete { unread: names(unread), unchanged: names(unchanged), schemas };
            membership.note_incomplete(&incomplete, at);
            let lines: Vec<String> =
                membership.changed_since(&before).iter().map(|record| record.csv_line(at)).collect();
            let begin = told.map(|told| format!("{at},Incomplete,\"pass\",{}", told.replace('*', &at.to_string())));
            assert_eq!(lines.len(), usize::from(begin.is_some()), "{lines:?}");
            assert!(begin.iter().all(|begin| lines[0].starts_with(begin)), "{lines:?} does not begin with {begin:?}");
            assert!(membership.incomplete.words.chars().count() < 512, "{membership:?}");
        }
    }
}
