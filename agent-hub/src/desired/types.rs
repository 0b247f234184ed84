//! Columns that partitions have with different types. Pure; called by [`desired`](super::desired).

use std::collections::{BTreeMap, BTreeSet};

use kql::{
    names::{ColumnName, DatabaseName, TableName},
    statements::Entity,
    types::ScalarType,
};
use shared::heartbeat::Columns;

use super::Problem;

/// A table's columns in one content of its database, and who has that.
pub(super) struct Having<'a> {
    pub(super) columns: Option<&'a Columns>,
    pub(super) entities: &'a BTreeSet<Entity>,
}

/// The most partitions that are named for one type of a column.
const MAX_NAMED: usize = 10;

/// Columns that partitions have with different types, and one type that holds all of them; each is reported with who has which.
pub(super) fn conversions(
    having: &[Having<'_>],
    database: &DatabaseName,
    table: &TableName,
    problems: &mut Vec<Problem>,
) -> BTreeMap<ColumnName, ScalarType> {
    // Almost always there is but one kind of columns.
    let first = having.iter().find_map(|having| having.columns);
    if having.iter().all(|having| having.columns.is_none() || having.columns == first) {
        return BTreeMap::new();
    }
    let mut types = BTreeMap::<&ColumnName, BTreeMap<ScalarType, Vec<&Entity>>>::new();
    for Having { columns, entities } in having {
        for (column, scalar_type) in columns.iter().copied().flatten() {
            types.entry(column).or_default().entry(*scalar_type).or_default().extend(*entities);
        }
    }
    let conflicts = types.into_iter().filter(|(_, types)| types.len() > 1);
    conflicts
        .map(|(column, types)| {
            let scalar_type = common_type(&types.keys().copied().collect::<Vec<_>>());
            problems.push(Problem::TypesDiffer {
                database: database.clone(),
                table: table.clone(),
                column: column.clone(),
                types: who_has_which(types),
            });
            (column.clone(), scalar_type)
        })
        .collect()
}

/// Those who disagree first, as they are few and a status has room for so much; of many with whom they disagree, only how many.
fn who_has_which(types: BTreeMap<ScalarType, Vec<&Entity>>) -> String {
    let mut types: Vec<_> = types.into_iter().collect();
    types.sort_by_key(|(_, entities)| entities.len());
    let most = types.len() - 1;
    let said = types.iter().enumerate().map(|(place, (scalar_type, entities))| {
        let more = entities.len().saturating_sub(MAX_NAMED);
        if more > 0 && place == most {
            return format!("{scalar_type} in {} partitions", entities.len());
        }
        let named: Vec<_> = entities.iter().take(MAX_NAMED).map(|entity| entity.cluster.to_string()).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{scalar_type} in {}{more}", named.join(", "))
    });
    said.collect::<Vec<_>>().join("; ")
}

/// The narrowest type that every value of these fits into without an error, and where there is one, without a loss: whole numbers and decimals have more digits than a real.
fn common_type(types: &[ScalarType]) -> ScalarType {
    use ScalarType::{Decimal, Int, Long, Real};
    if types.iter().all(|scalar_type| matches!(scalar_type, Int | Long)) {
        Long
    } else if types.iter().all(|scalar_type| matches!(scalar_type, Int | Long | Decimal)) {
        Decimal
    } else if types.iter().all(|scalar_type| matches!(scalar_type, Int | Long | Real | Decimal)) {
        Real
    } else {
        ScalarType::String
    }
}
