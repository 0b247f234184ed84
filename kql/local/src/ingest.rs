//! From what a client sends to rows of a table: formats, mappings, compression, limits. Pure; the streaming endpoint, `.ingest inline` and `.set-or-append` use it.

mod compression;
mod csv_format;
mod json_format;
pub(crate) mod mapping;

use datafusion::arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    compute::nullif,
    datatypes::DataType,
};
use kql::types::ScalarType;

pub(crate) use compression::{inflate, too_large};

use crate::{
    catalog::{Database, Mapping, MappingKind, StoredTable},
    error::{KustoError, KustoErrorKind},
    rows::Schema,
};

/// The most bytes of one streaming request, after decompression.
pub(crate) const MAX_STREAMING_BYTES: usize = 4 * 1024 * 1024;

/// How the rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    /// One object per line.
    Json,
    /// Objects one after the other, or in arrays.
    MultiJson,
}

impl Format {
    /// The format of a name, in any case; no name is CSV.
    ///
    /// # Errors
    /// `BadRequest_NotSupported` for the service's other formats, and for no format at all.
    pub(crate) fn of_name(name: Option<&str>) -> Result<Self, KustoError> {
        match name.map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "csv") => Ok(Self::Csv),
            Some("json") => Ok(Self::Json),
            Some("multijson") => Ok(Self::MultiJson),
            Some(other) => Err(KustoError::unsupported(format!(
                "the format '{other}' is not supported: use Csv, Json or MultiJson"
            ))),
        }
    }

    const fn mapping_kind(self) -> MappingKind {
        match self {
            Self::Csv => MappingKind::Csv,
            Self::Json | Self::MultiJson => MappingKind::Json,
        }
    }
}

/// What is to be ingested, and how it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) format: Format,
    /// The name of a stored mapping.
    pub(crate) mapping: Option<&'a str>,
    /// Whether the first CSV record is a header.
    pub(crate) ignore_first_record: bool,
}

/// What may be asked of a table beyond its being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// A command: any table.
    Command,
    /// The streaming endpoint: the policy must allow it.
    Streaming,
}

/// Reads the payload and adds its rows to the table; how many there are.
///
/// # Errors
/// The table or mapping is not there, the policy does not allow streaming, or the payload is not written in its format.
pub(crate) fn ingest(
    database: &Database,
    table: &str,
    payload: Payload<'_>,
    gate: Gate,
    now: i64,
) -> Result<usize, KustoError> {
    // Reading happens outside of the lock, against the columns as they are. Should they change meanwhile, the rows are read again; a third change in a row gives up.
    for _ in 0..3 {
        let target = database.read(|state| {
            let found = state.table(table)?;
            if gate == Gate::Streaming && !state.is_streaming_enabled(found) {
                return Err(KustoError::new(
                    KustoErrorKind::StreamingDisabled,
                    format!(
                        "Streaming ingestion policy is not enabled for table '{table}' of database '{}'.",
                        database.name()
                    ),
                ));
            }
            Target::of(found, table, payload)
        })?;
        let rows = match payload.format {
            Format::Csv => csv_format::read(payload.bytes, &target, payload.ignore_first_record)?,
            Format::Json => json_format::read_lines(payload.bytes, &target)?,
            Format::MultiJson => json_format::read_stream(payload.bytes, &target)?,
        };
        let count = rows.num_rows();
        if append(database, table, &target.schema, vec![rows], now)? {
            return Ok(count);
        }
    }
    Err(KustoError::new(
        KustoErrorKind::Throttled,
        format!("the columns of table '{table}' keep changing while rows are ingested: try again"),
    ))
}

/// Adds rows that were made for `schema`; false if the table has other columns by now.
///
/// # Errors
/// The table is not there.
pub(crate) fn append(
    database: &Database,
    table: &str,
    schema: &Schema,
    mut batches: Vec<RecordBatch>,
    now: i64,
) -> Result<bool, KustoError> {
    let longest: Vec<Option<usize>> = database.read(|state| {
        let table = state.table(table)?;
        let columns = schema.columns().iter();
        Ok::<_, KustoError>(
            columns
                .map(|column| {
                    (column.scalar_type == ScalarType::Dynamic).then(|| table.max_dynamic_bytes(&column.name))
                })
                .collect(),
        )
    })?;
    for batch in &mut batches {
        *batch = cap_dynamic(batch, &longest)?;
    }
    database.write(|state| {
        let stored = state.table_mut(table)?;
        if stored.schema() != schema {
            return Ok(false);
        }
        stored.append(&batches, now)?;
        // A table that is only written to must not grow for ever.
        if let Some(oldest) = state.tables.get(table).and_then(|table| state.oldest_kept(table, now)) {
            state.table_mut(table)?.drop_older_than(oldest);
        }
        Ok(true)
    })
}

/// What the readers of a format must know of the table.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) schema: Schema,
    pub(crate) mapping: Option<Mapping>,
}

impl Target {
    fn of(table: &StoredTable, name: &str, payload: Payload<'_>) -> Result<Self, KustoError> {
        let mapping = match payload.mapping {
            None | Some("") => None,
            Some(mapping) => {
                let key = (payload.format.mapping_kind(), mapping.to_owned());
                let found = table.mappings.get(&key).ok_or_else(|| {
                    KustoError::new(
                        KustoErrorKind::NotFound,
                        format!(
                            "Mapping reference '{mapping}' of kind '{}' was not found for table '{name}'.",
                            payload.format.mapping_kind().name()
                        ),
                    )
                })?;
                for mapped in &found.columns {
                    if table.schema().index_of(&mapped.column).is_none() {
                        return Err(KustoError::bad_request(format!(
                            "mapping '{mapping}' fills column '{}', which table '{name}' does not have",
                            mapped.column
                        )));
                    }
                }
                Some(found.clone())
            }
        };
        Ok(Self { schema: table.schema().clone(), mapping })
    }
}

/// Kusto's rule for large values: a `dynamic` longer than its column allows is ingested as null, with success.
fn cap_dynamic(batch: &RecordBatch, longest: &[Option<usize>]) -> Result<RecordBatch, KustoError> {
    let mut arrays = batch.columns().to_vec();
    for (array, longest) in arrays.iter_mut().zip(longest) {
        let (Some(longest), DataType::Utf8) = (longest, array.data_type()) else { continue };
        let texts: &StringArray = array.as_string();
        let too_long = |row: usize| texts.is_valid(row) && texts.value(row).len() > *longest;
        if (0..texts.len()).any(too_long) {
            let mask = (0..texts.len()).map(|row| Some(too_long(row))).collect();
            *array = nullif(texts, &mask)
                .map_err(|error| KustoError::internal(format!("a large dynamic could not be made null: {error}")))?;
        }
    }
    RecordBatch::try_new(batch.schema(), arrays)
        .map_err(|error| KustoError::internal(format!("rows of other columns than the table's: {error}")))
}
