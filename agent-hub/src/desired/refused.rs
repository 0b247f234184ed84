//! What of a partition's own names gives no name that Kusto takes. Pure; the pass tells it of the partition, whose names they are.

use std::{collections::HashMap, sync::Arc};

use kql::{
    names::{DatabaseName, FunctionName, MAX_NAME_CHARS, TableName},
    secrets::line,
};
use shared::heartbeat::DatabaseInventory;

use super::{GROUP_SUFFIX, group_of, group_of_value, names_a_group};
use crate::{
    fleet::{Beat, Inventory},
    settings::Settings,
};

/// How much of a refused value is shown.
const SHOWN_CHARS: usize = 64;

/// The beginning of a stranger's text, on one line.
fn short(text: &str) -> String {
    let shown = line(text, SHOWN_CHARS);
    if text.chars().count() > SHOWN_CHARS { format!("{shown}…") } else { shown }
}

/// Looks at each content once in a pass: equal ones are one in memory.
#[derive(Debug)]
pub struct RefusedNames<'a> {
    settings: &'a Settings,
    tables: HashMap<*const DatabaseInventory, Option<(TableName, usize)>>,
}

impl<'a> RefusedNames<'a> {
    /// Of this document.
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, tables: HashMap::new() }
    }

    /// What is refused of a partition, in a sentence for each kind.
    pub fn of(&mut self, beat: &Beat) -> Vec<String> {
        let attributes = self.settings.group_attributes.iter();
        let values = attributes.filter_map(|attribute| Some((attribute, beat.attribute(attribute)?)));
        let (named, refused): (Vec<_>, Vec<_>) =
            values.filter(|(_, value)| !value.is_empty()).partition(|(_, value)| names_a_group(value));
        let mut sentences: Vec<String> = refused
            .into_iter()
            .map(|(attribute, value)| {
                let value = short(&value);
                format!(
                    "PartitionMetadata.{attribute}: no entity group can be named after '{value}': a Kusto name holds letters, digits, '_', ' ', '.' and '-' only, and does not end with '__'"
                )
            })
            .collect();
        let Inventory::Known(inventory) = &beat.inventory else { return sentences };
        let has_no_group = |database: &&DatabaseName| {
            let longest = named.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
            let may_be_long = database.as_str().len() + GROUP_SUFFIX.len() + 1 + longest > MAX_NAME_CHARS;
            may_be_long
                && (group_of(database).is_err()
                    || named.iter().any(|(_, value)| group_of_value(database, value).is_err()))
        };
        let mut databases = inventory.0.keys().filter(has_no_group);
        sentences.extend(databases.next().map(|database| {
            let (database, more) = (short(database.as_str()), databases.count());
            format!(
                "the database '{database}' and {more} more get not all of their entity groups: with '{GROUP_SUFFIX}', or the value of an attribute behind that, a name would have more than {MAX_NAME_CHARS} characters"
            )
        }));
        let tables = inventory.0.iter().filter_map(|(database, content)| {
            let (table, count) = self.tables_without_functions(content)?;
            Some((database, table, count))
        });
        let tables: Vec<_> = tables.collect();
        let count: usize = tables.iter().map(|(.., count)| count).sum();
        sentences.extend(tables.first().map(|(database, table, _)| {
            let (database, table) = (short(database.as_str()), short(table.as_str()));
            let prefix = &self.settings.function_prefix;
            format!(
                "'{table}' in '{database}' and {} more tables or views get no function: behind '{prefix}' its name would have more than {MAX_NAME_CHARS} characters",
                count - 1
            )
        }));
        sentences
    }

    /// The first of them, and how many there are.
    fn tables_without_functions(&mut self, content: &Arc<DatabaseInventory>) -> Option<(TableName, usize)> {
        let prefix = &self.settings.function_prefix;
        let is_refused = |table: &&TableName| {
            prefix.len() + table.as_str().len() > MAX_NAME_CHARS
                && FunctionName::new(format!("{prefix}{table}")).is_err()
        };
        let found = self.tables.entry(Arc::as_ptr(content)).or_insert_with(|| {
            let views = content.views.keys().filter(|view| !content.tables.contains_key(*view));
            let mut refused = content.tables.keys().chain(views).filter(is_refused);
            Some((refused.next()?.clone(), 1 + refused.count()))
        });
        found.clone()
    }
}
