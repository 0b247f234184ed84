//! Rows from JSON values or from text fields, with Kusto's leniency: what cannot be read as the column's type becomes null. Pure; the commands use it
//! for their result tables, ingestion for what clients send, the engine for `datatable` and remote answers.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Decimal128Builder, Float64Builder, Int32Builder, Int64Builder, RecordBatch,
    RecordBatchOptions, StringBuilder,
};
use kql::types::ScalarType;
use serde_json::Value;

use super::{
    DECIMAL_PRECISION, DECIMAL_SCALE, Rows, Schema,
    cell::{parse_bool, parse_datetime, parse_decimal, parse_guid, parse_real, parse_timespan, parse_whole},
};

/// Collects rows; see [`RowsBuilder::push_json`] and [`RowsBuilder::push_text`].
#[derive(Debug)]
pub struct RowsBuilder {
    schema: Schema,
    columns: Vec<ColumnBuilder>,
    rows: usize,
}

impl RowsBuilder {
    /// An empty table of these columns.
    pub fn new(schema: Schema) -> Self {
        let columns = schema.columns().iter().map(|column| ColumnBuilder::new(column.scalar_type)).collect();
        Self { schema, columns, rows: 0 }
    }

    /// How many rows were pushed.
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row was pushed.
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a row of JSON values; missing ones are null, surplus ones are left out.
    pub fn push_json(&mut self, values: &[Value]) {
        for (index, column) in self.columns.iter_mut().enumerate() {
            column.push_json(values.get(index).unwrap_or(&Value::Null));
        }
        self.rows += 1;
    }

    /// Adds a row of text fields, as CSV gives them; missing ones are null, surplus ones are left out.
    pub fn push_text<T: AsRef<str>>(&mut self, fields: &[T]) {
        for (index, column) in self.columns.iter_mut().enumerate() {
            column.push_text(fields.get(index).map_or("", AsRef::as_ref));
        }
        self.rows += 1;
    }

    /// The rows, as one batch.
    pub fn finish(self, name: impl Into<String>) -> Rows {
        let arrow_schema = self.schema.arrow_schema();
        let arrays: Vec<ArrayRef> = self.columns.into_iter().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(arrow_schema, arrays, &options)
            .expect("every builder has the column's type and got one value per row");
        Rows::new(name, self.schema, vec![batch])
    }
}

/// One column that grows; also the engine's way to make arrays from values.
#[derive(Debug)]
enum ColumnBuilder {
    Bool(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    DateTime(Int64Builder),
    Timespan(Int64Builder),
    Real(Float64Builder),
    String(StringBuilder),
    Dynamic(StringBuilder),
    Guid(StringBuilder),
    Decimal(Decimal128Builder),
}

impl ColumnBuilder {
    fn new(scalar_type: ScalarType) -> Self {
        match scalar_type {
            ScalarType::Bool => Self::Bool(BooleanBuilder::new()),
            ScalarType::Int => Self::Int(Int32Builder::new()),
            ScalarType::Long => Self::Long(Int64Builder::new()),
            ScalarType::DateTime => Self::DateTime(Int64Builder::new()),
            ScalarType::Timespan => Self::Timespan(Int64Builder::new()),
            ScalarType::Real => Self::Real(Float64Builder::new()),
            ScalarType::String => Self::String(StringBuilder::new()),
            ScalarType::Dynamic => Self::Dynamic(StringBuilder::new()),
            ScalarType::Guid => Self::Guid(StringBuilder::new()),
            ScalarType::Decimal => Self::Decimal(
                Decimal128Builder::new()
                    .with_precision_and_scale(DECIMAL_PRECISION, DECIMAL_SCALE)
                    .expect("38 digits with 18 after the point are a valid decimal type"),
            ),
        }
    }

    fn push_json(&mut self, value: &Value) {
        match self {
            Self::Dynamic(builder) => {
                if value.is_null() {
                    builder.append_null();
                } else {
                    builder.append_value(value.to_string());
                }
            }
            Self::Bool(builder) => builder.append_option(match value {
                Value::Bool(value) => Some(*value),
                Value::Number(number) => number.as_f64().map(|number| number != 0.0),
                Value::String(text) => parse_bool(text),
                _ => None,
            }),
            Self::Real(builder) => builder.append_option(match value {
                Value::Number(number) => number.as_f64(),
                Value::String(text) => parse_real(text),
                Value::Bool(value) => Some(f64::from(u8::from(*value))),
                _ => None,
            }),
            Self::Int(builder) => builder.append_option(whole(value).and_then(|value| i32::try_from(value).ok())),
            Self::Long(builder) => builder.append_option(whole(value)),
            other => match value {
                Value::Null => other.push_null(),
                Value::String(text) => other.push_text(text),
                value => other.push_text(&value.to_string()),
            },
        }
    }

    fn push_text(&mut self, text: &str) {
        match self {
            Self::Bool(builder) => builder.append_option(parse_bool(text)),
            Self::Int(builder) => builder.append_option(parse_whole(text).and_then(|value| i32::try_from(value).ok())),
            Self::Long(builder) => builder.append_option(parse_whole(text)),
            Self::DateTime(builder) => builder.append_option(parse_datetime(text)),
            Self::Timespan(builder) => builder.append_option(parse_timespan(text)),
            Self::Real(builder) => builder.append_option(parse_real(text)),
            Self::String(builder) => builder.append_value(text),
            Self::Guid(builder) => builder.append_option(parse_guid(text)),
            Self::Decimal(builder) => builder.append_option(parse_decimal(text)),
            Self::Dynamic(builder) => {
                if text.trim().is_empty() {
                    builder.append_null();
                    return;
                }
                match serde_json::from_str::<Value>(text) {
                    Ok(Value::Null) => builder.append_null(),
                    Ok(value) => builder.append_value(value.to_string()),
                    // A text that is not JSON is kept as a JSON string, as Kusto's ingestion does.
                    Err(_) => builder.append_value(Value::from(text).to_string()),
                }
            }
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Long(builder) | Self::DateTime(builder) | Self::Timespan(builder) => builder.append_null(),
            Self::Real(builder) => builder.append_null(),
            Self::String(builder) => builder.append_value(""),
            Self::Dynamic(builder) | Self::Guid(builder) => builder.append_null(),
            Self::Decimal(builder) => builder.append_null(),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Int(mut builder) => Arc::new(builder.finish()),
            Self::Long(builder) | Self::DateTime(builder) | Self::Timespan(builder) => finish(builder),
            Self::Real(mut builder) => Arc::new(builder.finish()),
            Self::String(builder) | Self::Dynamic(builder) | Self::Guid(builder) => finish(builder),
            Self::Decimal(mut builder) => Arc::new(builder.finish()),
        }
    }
}

fn finish(mut builder: impl ArrayBuilder) -> ArrayRef {
    ArrayBuilder::finish(&mut builder)
}

fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(truncated)),
        Value::String(text) => parse_whole(text),
        Value::Bool(value) => Some(i64::from(*value)),
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation)] // The range is checked first.
fn truncated(value: f64) -> Option<i64> {
    (value.is_finite() && value.abs() < 9.2e18).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Column;

    fn every_type() -> Schema {
        ScalarType::ALL.into_iter().map(|scalar_type| Column::new(scalar_type.name(), scalar_type)).collect()
    }

    #[test]
    fn text_fields_are_read_as_their_column_type() {
        let mut builder = RowsBuilder::new(every_type());
        builder.push_text(&[
            "true",
            "2025-05-03T00:00:00Z",
            "1.50",
            r#"{ "a": 1 }"#,
            "{6F9619FF-8B86-D011-B42D-00CF4FC964FF}",
            "1",
            "0x10",
            "1.5",
            "x",
            "01:00:00",
        ]);
        let expected = json!([
            true,
            "2025-05-03T00:00:00Z",
            "1.5",
            {"a": 1},
            "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
            1,
            16,
            1.5,
            "x",
            "01:00:00"
        ]);
        assert_eq!(json!(builder.finish("t").json()[0]), expected);
    }

    #[test]
    fn what_cannot_be_read_is_null_and_a_string_is_never_null() {
        let mut builder = RowsBuilder::new(every_type());
        builder.push_text::<&str>(&[]);
        builder.push_json(&[]);
        builder.push_text(&["?"; 10]);
        let rows = builder.finish("t").json();
        let nothing = json!([null, null, null, null, null, null, null, null, "", null]);
        assert_eq!(json!(rows[0]), nothing);
        assert_eq!(json!(rows[1]), nothing);
        assert_eq!(json!(rows[2]), json!([null, null, null, "?", null, null, null, null, "?", null]));
    }

    #[test]
    fn not_a_number_and_infinity_travel_as_text() {
        let mut builder = RowsBuilder::new(vec![Column::new("x", ScalarType::Real)].into());
        for value in ["NaN", "Infinity", "-Infinity", "1"] {
            builder.push_json(&[json!(value)]);
        }
        assert_eq!(json!(builder.finish("t").json()), json!([["NaN"], ["Infinity"], ["-Infinity"], [1.0]]));
    }
}
