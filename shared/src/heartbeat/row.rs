//! The row and its text. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kql::endpoint::ClusterEndpoint;
use serde_json::{Map, Value};

use super::schema::SchemaInventory;

/// The columns of the heartbeat table, in their order, which is also the order of the fields in a row's CSV.
pub const COLUMNS: [&str; 4] = ["Timestamp", "ClusterEndpoint", "Schema", "PartitionMetadata"];

/// One heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// When it was sent, by the partition's clock.
    pub timestamp: Timestamp,
    /// The partition's address.
    pub endpoint: ClusterEndpoint,
    /// Its databases, tables and views; `None` where they could not be read yet, which becomes an empty field and in the table null.
    pub schema: Option<SchemaInventory>,
    /// Whether they are those of an older look, as later ones failed: nothing is confirmed by saying it again.
    pub is_stale: bool,
    /// Its partitioning attributes, each a text, number or boolean.
    pub metadata: BTreeMap<String, Value>,
}

impl Heartbeat {
    /// The row as one line of CSV with its line end. Equal heartbeats give equal bytes.
    pub fn to_csv_row(&self) -> String {
        let fields = [
            // Whole seconds, as adx-mon writes them; nothing needs more.
            self.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            self.endpoint.as_str().to_owned(),
            self.schema.as_ref().map(|schema| self.schema_json(schema).to_string()).unwrap_or_default(),
            metadata_json(&self.metadata).to_string(),
        ];
        let fields: Vec<String> = fields.iter().map(|field| csv_field(field)).collect();
        format!("{}\n", fields.join(","))
    }

    fn schema_json(&self, schema: &SchemaInventory) -> Value {
        let mut databases = schema.to_json();
        if self.is_stale {
            for database in databases.as_array_mut().into_iter().flatten() {
                database["stale"] = true.into();
            }
        }
        databases
    }
}

/// One CSV field: in quotes, doubled inside, if it holds what CSV reads as its own. No blank precedes the quote, or Kusto takes it for text.
fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The attributes as JSON. Every value is written as a text: adx-mon's hub reads `map[string]string` and gives up its whole pass at the first number.
fn metadata_json(metadata: &BTreeMap<String, Value>) -> Value {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    Value::Object(metadata.iter().map(|(key, value)| (key.clone(), Value::String(text(value)))).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::heartbeat::{Limits, parse_metadata, parse_schema};

    fn heartbeat(schema: &Value, metadata: &Value) -> Heartbeat {
        let (schema, problems) = parse_schema(schema, Limits::default());
        assert_eq!(problems, []);
        Heartbeat {
            timestamp: "2025-05-03T12:34:56.789Z".parse().unwrap(),
            endpoint: ClusterEndpoint::parse("https://eu-partition.kusto.windows.net").unwrap(),
            schema,
            is_stale: false,
            metadata: parse_metadata(metadata).0,
        }
    }

    #[test]
    fn the_seeds_example_is_written_as_the_seed_has_it() {
        let schema = json!([{"database": "Logs", "tables": ["A", "B", "C"]}]);
        let metadata = json!({"geo": "EU", "location": "westeurope"});
        assert_eq!(
            heartbeat(&schema, &metadata).to_csv_row(),
            concat!(
                r#"2025-05-03T12:34:56Z,https://eu-partition.kusto.windows.net,"#,
                r#""[{""database"":""Logs"",""tables"":[""A"",""B"",""C""]}]","{""geo"":""EU"",""location"":""westeurope""}""#,
                "\n"
            )
        );
    }

    #[test]
    fn what_only_repeats_an_older_look_says_so_of_each_database_and_is_read_all_the_same() {
        let schema = json!([{"database": "Logs", "tables": ["A"]}, {"database": "Metrics", "tables": []}]);
        let fresh = heartbeat(&schema, &json!({}));
        let row = Heartbeat { is_stale: true, ..fresh.clone() }.to_csv_row();
        assert_eq!(row.matches(r#""stale"":true"#).count(), 2, "{row}");
        assert!(!fresh.to_csv_row().contains("stale"));
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row.as_bytes());
        let text = reader.records().next().unwrap().unwrap()[2].to_owned();
        assert_eq!(parse_schema(&Value::String(text), Limits::default()), (fresh.schema, Vec::new()));
    }

    #[test]
    fn every_attribute_is_written_as_a_text_because_adx_mon_reads_nothing_else() {
        let row = heartbeat(&json!([]), &json!({"tier": 2, "ratio": 0.5, "spot": true, "geo": "EU"})).to_csv_row();
        assert!(
            row.ends_with(
                ",[],\"{\"\"geo\"\":\"\"EU\"\",\"\"ratio\"\":\"\"0.5\"\",\"\"spot\"\":\"\"true\"\",\"\"tier\"\":\"\"2\"\"}\"\n"
            ),
            "{row}"
        );
    }

    #[test]
    fn a_row_is_read_back_as_it_was() {
        let schema = json!([
            {"database": "Metrics", "tables": ["Cpu", "odd name"], "views": ["Recent"],
             "tableSchemas": {"Cpu": "['Time Stamp']:datetime, ['Value']:real", "Recent": "['x']:long"}},
        ]);
        let written = heartbeat(&schema, &json!({"note": "a \"quoted\", text\nof two lines"}));
        let row = written.to_csv_row();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(row.as_bytes());
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 1);
        let field = |index: usize| Value::String(records[0][index].to_owned());
        assert_eq!(heartbeat(&field(2), &field(3)).to_csv_row(), row);
        assert_eq!(parse_metadata(&field(3)).0, written.metadata);
    }
}
