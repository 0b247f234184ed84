//! `.alter ... policy` and `.show ... policy`. Changes the catalog in one step.

use serde_json::Value;

use super::{
    CommandContext, answer,
    command::{PolicyChange, PolicyTarget},
};
use crate::{
    catalog::{
        Database, DatabaseState,
        policy::{self, Caching, Encoding, Policies, PolicyKind, Retention},
    },
    error::KustoError,
    rows::Rows,
};

pub(super) fn alter(context: &CommandContext, target: &PolicyTarget, change: PolicyChange) -> Result<Rows, KustoError> {
    let kind = change.kind();
    let database = database_of(context, target)?;
    database.write(|state| match (target, change) {
        (PolicyTarget::Column { table, column }, PolicyChange::Encoding(encoding)) => {
            let table = state.table_mut(table)?;
            if table.schema().index_of(column).is_none() {
                return Err(KustoError::not_found("Column", column));
            }
            match encoding {
                Encoding::Null => table.encodings.remove(column),
                encoding => table.encodings.insert(column.clone(), encoding),
            };
            Ok(())
        }
        (PolicyTarget::Database(_), change) => apply(&mut state.policies, change),
        (PolicyTarget::Table(table) | PolicyTarget::Column { table, .. }, change) => {
            apply(&mut state.table_mut(table)?.policies, change)
        }
    })?;
    show(context, target, kind)
}

fn apply(policies: &mut Policies, change: PolicyChange) -> Result<(), KustoError> {
    // Altering replaces the whole policy; merging keeps what the command does not say.
    let base = |merge: bool, present: &Option<Retention>| match present {
        Some(present) if merge => present.clone(),
        _ => Retention::DEFAULT,
    };
    match change {
        PolicyChange::Retention { soft_delete_ticks, recoverable, merge } => {
            let base = base(merge, &policies.retention);
            policies.retention = Some(Retention {
                soft_delete_ticks: soft_delete_ticks.unwrap_or(base.soft_delete_ticks),
                recoverable: recoverable.unwrap_or(base.recoverable),
            });
        }
        PolicyChange::RetentionJson { value: Value::Null, .. } => policies.retention = None,
        PolicyChange::RetentionJson { value, merge } => {
            policies.retention = Some(Retention::read(&value, &base(merge, &policies.retention))?);
        }
        PolicyChange::Caching { data_ticks, index_ticks } => {
            policies.caching = Some(Caching { data_ticks, index_ticks });
        }
        PolicyChange::CachingJson(value) => policies.caching = Some(Caching::read(&value)?),
        PolicyChange::StreamingIngestion(enabled) => policies.streaming_ingestion = Some(enabled),
        PolicyChange::StreamingIngestionJson(value) => {
            policies.streaming_ingestion = Some(policy::read_streaming_ingestion(&value)?);
        }
        PolicyChange::IngestionBatching(value) => {
            policy::check_ingestion_batching(&value)?;
            policies.ingestion_batching = Some(value);
        }
        PolicyChange::Encoding(_) => {
            return Err(KustoError::unsupported("an encoding policy is supported on columns only by this server"));
        }
    }
    Ok(())
}

/// One policy, `null` where it is not set.
pub(super) fn show(context: &CommandContext, target: &PolicyTarget, kind: PolicyKind) -> Result<Rows, KustoError> {
    let database = database_of(context, target)?;
    let (entity, entity_type, policy) = database.read(|state| describe(&database, state, target, kind))?;
    Ok(answer::strings(
        ["PolicyName", "EntityName", "Policy", "ChildEntities", "EntityType"],
        [[kind.name().to_owned(), entity, policy, String::new(), entity_type.to_owned()]],
    ))
}

fn describe(
    database: &Database,
    state: &DatabaseState,
    target: &PolicyTarget,
    kind: PolicyKind,
) -> Result<(String, &'static str, String), KustoError> {
    let text = |policy: Option<Value>| policy.unwrap_or(Value::Null).to_string();
    let name = database.name();
    match target {
        PolicyTarget::Database(_) => Ok((format!("[{name}]"), "Database", text(state.policies.json(kind)))),
        PolicyTarget::Table(table) => {
            let found = state.table(table)?;
            Ok((format!("[{name}].[{table}]"), "Table", text(found.policies.json(kind))))
        }
        PolicyTarget::Column { table, column } => {
            let found = state.table(table)?;
            if found.schema().index_of(column).is_none() {
                return Err(KustoError::not_found("Column", column));
            }
            if kind != PolicyKind::Encoding {
                return Err(KustoError::unsupported("this policy is not supported on columns by this server"));
            }
            let encoding = found.encodings.get(column).map(|encoding| encoding.name().to_owned());
            Ok((format!("[{name}].[{table}].[{column}]"), "Column", encoding.unwrap_or_else(|| "null".to_owned())))
        }
    }
}

fn database_of(context: &CommandContext, target: &PolicyTarget) -> Result<std::sync::Arc<Database>, KustoError> {
    match target {
        PolicyTarget::Database(name) => context.named_database(name),
        PolicyTarget::Table(_) | PolicyTarget::Column { .. } => context.database(),
    }
}
