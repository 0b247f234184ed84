//! A complete answer, with typed access to its rows. Pure; filled by `stream`.

use jiff::Timestamp;
use kql::types::ScalarType;
use serde_json::Value;

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub scalar_type: ScalarType,
}

/// The primary result of a query or command: complete where the client gives one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResultTable {
    columns: Vec<ColumnInfo>,
    rows: Vec<Vec<Value>>,
}

/// A value that is not what the caller needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The answer has no such column.
    #[error("the answer has no column '{column}'; it has {}", .present.join(", "))]
    NoColumn {
        /// The wanted column.
        column: String,
        /// The columns there are.
        present: Vec<String>,
    },
    /// A row is missing without which the answer is not whole.
    #[error("the answer has no {expected}")]
    NoRow {
        /// What is needed.
        expected: &'static str,
    },
    /// The value is of another kind.
    #[error("row {row} of the answer has {found} in column '{column}' where {expected} is expected")]
    Type {
        /// Counted from 0.
        row: usize,
        /// The column.
        column: String,
        /// What is needed.
        expected: &'static str,
        /// What kind of value is there.
        found: &'static str,
    },
}

impl ResultTable {
    /// A table; for tests, the agents' too. Rows that are shorter than the columns read as null at the end.
    pub const fn new(columns: Vec<ColumnInfo>, rows: Vec<Vec<Value>>) -> Self {
        Self { columns, rows }
    }

    /// The columns in their order.
    pub fn columns(&self) -> &[ColumnInfo] {
        &self.columns
    }

    /// The rows in their order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        self.rows.iter().enumerate().map(|(index, values)| Row { columns: &self.columns, index, values })
    }

    /// What `KustoClient::fold` would give; for tests, the agents' too.
    ///
    /// # Errors
    /// The first of `take`.
    pub fn fold<S: Default + Send>(
        self,
        take: impl FnMut(&mut S, Row<'_>) -> Result<(), DecodeError> + Send,
    ) -> Result<S, DecodeError> {
        let mut fold = Fold::new(take);
        fold.start(self.columns);
        self.rows.into_iter().for_each(|values| fold.take(values));
        fold.finish()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [ColumnInfo],
    index: usize,
    values: &'a [Value],
}

impl<'a> Row<'a> {
    /// The value as it came.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn value(&self, column: &str) -> Result<&'a Value, DecodeError> {
        match self.columns.iter().position(|info| info.name == column) {
            Some(position) => Ok(self.values.get(position).unwrap_or(&Value::Null)),
            None => Err(DecodeError::NoColumn {
                column: column.to_owned(),
                present: self.columns.iter().map(|info| info.name.clone()).collect(),
            }),
        }
    }

    /// A `string` or `guid`. Null is the empty text: Kusto's strings are never null, its management commands' JSON is at times.
    ///
    /// # Errors
    /// If there is no such column, or something else in it.
    pub fn string(&self, column: &str) -> Result<&'a str, DecodeError> {
        match self.value(column)? {
            Value::String(text) => Ok(text),
            Value::Null => Ok(""),
            other => Err(self.wrong(column, "a text", other)),
        }
    }

    /// A `long` or `int`; `None` for null.
    ///
    /// # Errors
    /// If there is no such column, or something else in it.
    pub fn long(&self, column: &str) -> Result<Option<i64>, DecodeError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            other => other.as_i64().map(Some).ok_or_else(|| self.wrong(column, "a whole number", other)),
        }
    }

    /// A `bool`, which V1 answers give as 0 or 1; `None` for null.
    ///
    /// # Errors
    /// If there is no such column, or something else in it.
    pub fn bool(&self, column: &str) -> Result<Option<bool>, DecodeError> {
        let value = self.value(column)?;
        match (value, value.as_i64()) {
            (Value::Null, _) => Ok(None),
            (Value::Bool(value), _) => Ok(Some(*value)),
            (_, Some(0)) => Ok(Some(false)),
            (_, Some(1)) => Ok(Some(true)),
            (other, _) => Err(self.wrong(column, "a boolean", other)),
        }
    }

    /// A `datetime`; `None` for null.
    ///
    /// # Errors
    /// If there is no such column, or something else in it.
    pub fn datetime(&self, column: &str) -> Result<Option<Timestamp>, DecodeError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::String(text) => {
                text.parse().map(Some).map_err(|_| self.wrong(column, "a datetime", &Value::String(String::new())))
            }
            other => Err(self.wrong(column, "a datetime", other)),
        }
    }

    /// A `dynamic`, which comes as JSON or as the text of it. A text that is no JSON is itself, as in Kusto.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn dynamic(&self, column: &str) -> Result<Value, DecodeError> {
        Ok(match self.value(column)? {
            Value::String(text) if text.is_empty() => Value::Null,
            Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())),
            other => other.clone(),
        })
    }

    fn wrong(&self, column: &str, expected: &'static str, found: &Value) -> DecodeError {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        DecodeError::Type { row: self.index, column: column.to_owned(), expected, found }
    }
}

/// Takes the rows of an answer while they arrive. Whether they count is known when it has ended, and a request that is sent again begins anew: nothing may come of them before.
pub(super) trait RowSink: Send {
    /// The rows that follow have these columns; those of before are of an answer that broke off.
    fn start(&mut self, columns: Vec<ColumnInfo>);
    /// One row, with a value for each column.
    fn take(&mut self, values: Vec<Value>);
}

impl RowSink for ResultTable {
    fn start(&mut self, columns: Vec<ColumnInfo>) {
        *self = Self::new(columns, Vec::new());
    }

    fn take(&mut self, values: Vec<Value>) {
        self.rows.push(values);
    }
}

/// Makes something of each row, and keeps no row.
pub(super) struct Fold<S, F> {
    columns: Vec<ColumnInfo>,
    index: usize,
    made: Result<S, DecodeError>,
    take: F,
}

impl<S: Default, F> Fold<S, F> {
    pub(super) fn new(take: F) -> Self {
        Self { columns: Vec::new(), index: 0, made: Ok(S::default()), take }
    }

    /// What was made of all rows, or why one could not be read.
    pub(super) fn finish(self) -> Result<S, DecodeError> {
        self.made
    }
}

impl<S: Default + Send, F: FnMut(&mut S, Row<'_>) -> Result<(), DecodeError> + Send> RowSink for Fold<S, F> {
    fn start(&mut self, columns: Vec<ColumnInfo>) {
        (self.columns, self.index, self.made) = (columns, 0, Ok(S::default()));
    }

    fn take(&mut self, values: Vec<Value>) {
        if let Ok(made) = &mut self.made
            && let Err(error) = (self.take)(made, Row { columns: &self.columns, index: self.index, values: &values })
        {
            self.made = Err(error);
        }
        self.index += 1;
    }
}
