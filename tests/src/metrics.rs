//! Metrics, as a program shows them and as README.md explains them: names, labels and values. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Families by name, as one asks for them (`reconciles_total`), with each label's values.
pub type Families = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

const PREFIX: &str = "adx_federation_";

/// The families of a program's `/metrics` that have values.
pub fn families(text: &str) -> Families {
    let histograms: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
    let mut families = Families::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((sample, _)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let histogram = histograms.iter().find(|histogram| {
            name.strip_prefix(**histogram).is_some_and(|rest| ["_bucket", "_sum", "_count"].contains(&rest))
        });
        let name = histogram.unwrap_or(&name);
        let family = families.entry(name.strip_prefix(PREFIX).unwrap_or(name).to_owned()).or_default();
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once("=\"").unwrap_or((label, ""));
            if label != "le" {
                family.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
            }
        }
    }
    families
}

/// What README.md's table says of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The names of its labels.
    pub labels: BTreeSet<String>,
    /// Whatever else its row has in code: values.
    pub values: BTreeSet<String>,
}

/// The rows of the table of metrics.
pub fn explained(readme: &str) -> BTreeMap<String, Explained> {
    let section = readme.split("### Metrics\n").nth(1).unwrap_or_default();
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut explained = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let (names, meaning) = row.trim_matches('|').split_once(" | ").unwrap_or_default();
        for name in code(names) {
            let (name, labels) = name.split_once('{').unwrap_or((&name, ""));
            let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
            let labels = labels.map(str::to_owned).collect();
            explained.insert(name.to_owned(), Explained { labels, values: code(meaning).into_iter().collect() });
        }
    }
    explained
}

/// Each family that a program shows has its row, with its labels.
///
/// # Panics
/// With the first that has none, or others.
pub fn assert_explained(families: &Families, explained: &BTreeMap<String, Explained>) {
    for (name, labels) in families {
        let row = explained.get(name).unwrap_or_else(|| panic!("README.md has no line for {name}"));
        let names: BTreeSet<String> = labels.keys().cloned().collect();
        assert_eq!(names, row.labels, "the labels of {name}, and those that README.md says");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_values_are_read_from_what_a_program_shows_and_from_the_table() {
        let text = "# HELP adx_federation_a A.\n# TYPE adx_federation_a counter\nadx_federation_a_total{x=\"1\",y=\"a b\"} 3\nadx_federation_a_total{x=\"2\",y=\"c\"} 1\n\
             # TYPE adx_federation_b_seconds histogram\nadx_federation_b_seconds_sum 0.0\nadx_federation_b_seconds_bucket{le=\"1\"} 0\n# EOF\n";
        let shown = families(text);
        assert_eq!(shown.keys().collect::<Vec<_>>(), ["a_total", "b_seconds"]);
        assert_eq!(shown["a_total"]["y"], ["a b".to_owned(), "c".to_owned()].into());
        assert!(shown["b_seconds"].is_empty());
        let table = "### Metrics\n\nAll.\n\n| metric | what |\n|---|---|\n| `a_total{x,y}`, `b_seconds` | how: `1`, `2` |\n\nMore: `c`\n";
        let explained = explained(table);
        assert_eq!(explained.keys().collect::<Vec<_>>(), ["a_total", "b_seconds"]);
        assert_eq!(explained["a_total"].values, ["1".to_owned(), "2".to_owned()].into());
        assert_explained(&shown, &explained);
    }
}
