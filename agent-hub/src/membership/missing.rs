//! Databases that partitions have and the hub lacks, as `federation_status()` tells of them. Pure; called by the pass when it has a plan.

use jiff::Timestamp;
use kql::names::DatabaseName;

use super::Membership;

/// The most characters of the names: the table that remembers them takes no more of one text than 512, and strangers' heartbeats name them.
const MOST_CHARS: usize = 400;

/// What the hub lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingDatabases {
    /// Their names, or the first of them; empty where the hub lacks none.
    pub names: String,
    /// Since when it is these.
    pub since: Timestamp,
}

impl Membership {
    /// Takes in which databases partitions have and the hub lacks now.
    pub fn note_missing(&mut self, databases: &[DatabaseName], now: Timestamp) {
        let names = listed(databases);
        if names != self.missing.names {
            self.missing = MissingDatabases { names, since: now };
        }
    }
}

/// Those names that there is room for, and how many there are besides.
fn listed(databases: &[DatabaseName]) -> String {
    let mut room = MOST_CHARS;
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
            assert!(membership.missing.names.chars().count() < 450, "{membership:?}");
        }
    }

    #[test]
    fn whoever_is_left_out_is_counted() {
        let names: Vec<String> = (10..100).map(|number| format!("Database-{number}")).collect();
        let told = listed(&databases(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        let (first, more) = told.rsplit_once(", ").unwrap();
        // Thirteen characters each, with what is between them, of four hundred.
        assert_eq!((first.split(", ").count(), more), (30, "60 more"), "{told}");
    }
}
