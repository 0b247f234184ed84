//! What the partition's own cluster holds. I/O: one `.show` command; reading its rows is pure.

use std::{sync::Arc, time::Duration};

use kql::{
    names::{ColumnName, DatabaseName, TableName},
    statements::ShowInventory,
    syntax::parser::Parser,
};
use shared::{
    heartbeat::{Columns, SchemaInventory},
    kusto::{DecodeError, KustoClient, KustoError, Row},
};

use crate::scalar::is_surely_scalar;

/// Why the cluster's content is not known.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The cluster did not answer, or not completely.
    #[error("failed to ask the cluster for its databases, tables and views")]
    Ask(#[from] KustoError),
    /// It answered in another form than documented.
    #[error("failed to understand the cluster's list of databases, tables and views")]
    Decode(#[from] DecodeError),
    /// It took too long.
    #[error("the cluster did not list its databases, tables and views within {0:?}")]
    Late(Duration),
    /// It lists nothing any more, though it did before.
    #[error("the cluster lists no database, table or view any more: has the agent lost its Viewer or Monitor role?")]
    Vanished,
}

/// What was found, and what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Databases with tables and views. A materialized view is queried like a table and counts as one.
    pub inventory: SchemaInventory,
    /// What cannot be federated, in sentences.
    pub skipped: Vec<String>,
}

/// Asks the cluster once for everything.
///
/// # Errors
/// [`InventoryError`]; a partial list is never returned.
pub async fn discover(cluster: &KustoClient) -> Result<Found, InventoryError> {
    Ok(told(cluster.fold(&ShowInventory.request(), add).await??))
}

/// What was found, with why there may be nothing.
fn told(mut found: Found) -> Found {
    if found.inventory.0.is_empty() {
        // An agent that has just started cannot tell which, and a hub would take an empty schema for the truth.
        let why = "the cluster lists no table or view: heartbeats go without a schema until it does (does the agent have Database Viewer or Monitor on its databases?)";
        found.skipped.push(why.to_owned());
    }
    found
}

/// Takes in one row of the list.
fn add(found: &mut Found, row: Row<'_>) -> Result<(), DecodeError> {
    let (database, kind) = (row.string("DatabaseName")?, row.string("EntityType")?);
    let (name, input) = (row.string("EntityName")?, row.string("CslInputSchema")?);
    let (output, body) = (row.string("CslOutputSchema")?, row.string("Body")?);
    let database = match DatabaseName::new(database) {
        Ok(database) => database,
        Err(error) => {
            found.skipped.push(error.to_string());
            return Ok(());
        }
    };
    // Whatever is in it, the database is there.
    let content = Arc::make_mut(found.inventory.0.entry(database).or_default());
    let is_queried_by_name = match kind {
        "Table" | "MaterializedView" => true,
        // A function with parameters is no view, as nobody could pass them through a federated function; and a value is no table.
        "Function" => !has_parameters(input) && !is_surely_scalar(body),
        _ => false,
    };
    if !is_queried_by_name {
        return Ok(());
    }
    let name = match TableName::new(name) {
        Ok(name) => name,
        Err(error) => {
            found.skipped.push(error.to_string());
            return Ok(());
        }
    };
    match kind {
        "Function" => drop(content.views.insert(name, columns(output).map(Arc::new))),
        // Kusto documents the columns as output; a cluster that gives them as input means the same.
        _ => drop(content.tables.insert(name, columns(output).or_else(|| columns(input)).map(Arc::new))),
    }
    Ok(())
}

fn has_parameters(input: &str) -> bool {
    !input.trim_matches(['(', ')', ' ']).is_empty()
}

/// `a:long, ['b c']:string`, with or without parentheses around it. `None` where the cluster does not tell (a function that it could not resolve) or names a
/// column that Kusto's rules refuse.
fn columns(text: &str) -> Option<Columns> {
    let text = text.trim();
    let list = if text.starts_with('(') { text.to_owned() } else { format!("({text})") };
    let columns = Parser::new(&list).column_declarations().ok()?;
    let named = columns.into_iter().map(|column| Some((ColumnName::new(column.name.name).ok()?, column.scalar_type)));
    named.collect::<Option<Columns>>().filter(|columns| !columns.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::kusto::{ColumnInfo, ResultTable};

    use super::*;

    fn read(rows: &[[&str; 6]]) -> Result<Found, DecodeError> {
        let names = ["DatabaseName", "EntityType", "EntityName", "CslInputSchema", "CslOutputSchema", "Body"];
        let columns =
            names.map(|name| ColumnInfo { name: name.to_owned(), scalar_type: kql::types::ScalarType::String });
        let rows = rows.iter().map(|row| row.iter().map(|cell| Value::from(*cell)).collect()).collect();
        ResultTable::new(columns.to_vec(), rows).fold(add).map(told)
    }

    #[test]
    fn tables_and_materialized_views_are_tables_and_parameterless_functions_are_views() {
        let found = read(&[
            ["Logs", "Table", "Requests", "", "a:long, ['b c']:string", ""],
            ["Logs", "Table", "Old", "a:datetime", "", ""],
            ["Logs", "MaterializedView", "Latest", "", "a:long", ""],
            ["Logs", "Function", "Errors", "()", "a:long", ""],
            ["Logs", "Function", "Unresolved", "", "", "{ database('Gone').T }"],
            ["Logs", "Function", "Limit", "", "", "{ 42 }"],
            ["Logs", "Function", "Since", "(t:datetime)", "a:long", ""],
        ])
        .unwrap();
        let expected = json!([{
            "database": "Logs",
            "tables": ["Latest", "Old", "Requests"],
            "tableSchemas": {
                "Errors": "['a']:long", "Latest": "['a']:long", "Old": "['a']:datetime", "Requests": "['a']:long, ['b c']:string",
            },
            "views": ["Errors", "Unresolved"],
        }]);
        assert_eq!(found.inventory.to_json(), expected);
        assert_eq!(found.skipped, Vec::<String>::new());
    }

    #[test]
    fn a_name_that_kusto_would_refuse_is_left_out_and_told() {
        let found =
            read(&[["Logs", "Table", "a'b", "", "x:long", ""], ["Logs", "Table", "Good", "", "x:long", ""]]).unwrap();
        assert_eq!(found.inventory.to_json()[0]["tables"], json!(["Good"]));
        assert!(found.skipped[0].contains("a'b"), "{:?}", found.skipped);
    }

    #[test]
    fn a_database_is_announced_for_whatever_is_in_it() {
        let found = read(&[
            ["Archive", "ExternalTable", "Old", "", "a:long", ""],
            ["Groups", "EntityGroup", "a'b", "", "", ""],
            ["Tools", "Function", "Since", "(t:datetime)", "a:long", ""],
            ["Values", "Function", "Limit", "()", "", "{ 42 }"],
        ])
        .unwrap();
        let bare = |name: &str| json!({"database": name, "tables": []});
        assert_eq!(found.inventory.to_json(), json!(["Archive", "Groups", "Tools", "Values"].map(bare)));
        assert_eq!(found.skipped, Vec::<String>::new());
    }

    #[test]
    fn a_cluster_that_lists_nothing_may_hide_what_it_has() {
        let found = read(&[]).unwrap();
        assert!(found.inventory.0.is_empty() && found.skipped[0].contains("Viewer"), "{:?}", found.skipped);
    }

    #[test]
    fn columns_that_cannot_be_read_are_not_known() {
        for text in ["", "()", "a", "a:frob", "a:long b:long", "['x':long"] {
            assert_eq!(columns(text), None, "{text}");
        }
    }
}
