//! How an earlier process, or another one, left our objects. I/O: one query, before a process first changes anything and now and then.

use kql::statements::ReadLeft;
use shared::{
    document::HubConfig,
    kusto::{DecodeError, KustoClient, ResultTable},
};

use super::{ObserveError, asking, decoding, number_of_records};
use crate::{drift::Left, setup::ownership_table};

const LEFT: &str = "the record of how our objects were left";

/// Reads it, with the number of its records.
///
/// # Errors
/// [`ObserveError`]
pub async fn read_left(hub: &KustoClient, config: &HubConfig) -> Result<(Left, usize), ObserveError> {
    let request = ReadLeft { database: &config.heartbeat_database, table: &ownership_table() }.request();
    parse(&hub.send(&request).await.map_err(asking(LEFT))?).map_err(decoding(LEFT))
}

fn parse(table: &ResultTable) -> Result<(Left, usize), DecodeError> {
    let mut left = Left::default();
    for row in table.rows() {
        if row.long("Records")?.is_none() {
            left.read(row.string("Database")?, row.string("Kind")?, row.string("Name")?, row.string("Content")?);
        }
    }
    Ok((left, number_of_records(table)?))
}
