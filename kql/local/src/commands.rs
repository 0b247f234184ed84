//! Management commands: `/v1/rest/mgmt` calls [`run`] with the text of one command. Reads and changes the catalog; the engine is called for `.set-or-append`, for the
//! operators after a `|`, and to resolve the columns of functions.

mod answer;
mod change;
mod command;
mod data;
mod materialized_views;
mod parse;
mod policies;
mod principals;
mod schema;
mod script;
mod show;

use std::{future::Future, pin::Pin, sync::Arc};

use command::{Command, PipedCommand};
pub(crate) use data::failed_ingestion;
pub(crate) use script::{halved as halved_script, refused as refused_script};

use crate::{
    catalog::Database,
    engine::{self, QueryContext},
    error::{KustoError, KustoErrorKind},
    rows::Rows,
};

/// What a command runs in.
#[derive(Debug)]
pub(crate) struct CommandContext {
    /// The catalog, the request's database, the time, the limits.
    pub(crate) query: QueryContext,
    /// `request_readonly`
    pub(crate) read_only: bool,
}

impl CommandContext {
    /// The request's database.
    fn database(&self) -> Result<Arc<Database>, KustoError> {
        self.named_database(&self.query.database)
    }

    /// A database that the command names.
    fn named_database(&self, name: &str) -> Result<Arc<Database>, KustoError> {
        self.query.catalog.database(name).ok_or_else(|| KustoError::database_not_found(name))
    }

    /// The database that the command names, or the request's.
    fn database_or_own(&self, name: Option<&str>) -> Result<Arc<Database>, KustoError> {
        name.map_or_else(|| self.database(), |name| self.named_database(name))
    }
}

/// Carries out one command and the operators after it.
///
/// # Errors
/// The command is no command, is refused, or failed; nothing is changed then, but by the commands of a script before the one that failed.
pub(crate) async fn run(context: &CommandContext, text: &str) -> Result<Vec<Rows>, KustoError> {
    let PipedCommand { command, operators } = parse::parse(text)?;
    if context.read_only && !command.is_read_only() {
        return Err(KustoError::new(
            KustoErrorKind::ReadOnly,
            format!(
                "the request is marked request_readonly and the command ({}) would change something",
                command.type_name()
            ),
        ));
    }
    let rows = execute(context, text, command).await?;
    if operators.is_empty() {
        return Ok(vec![rows]);
    }
    Ok(vec![engine::apply_operators(&context.query, rows, &operators).await?])
}

/// Carries out a command that was read from `text`. Boxed, because a script runs commands.
fn execute<'a>(
    context: &'a CommandContext,
    text: &'a str,
    command: Command,
) -> Pin<Box<dyn Future<Output = Result<Rows, KustoError>> + Send + 'a>> {
    Box::pin(async move {
        match command {
            Command::Show(show) => show::show(context, show).await,
            Command::CreateDatabase { name, if_not_exists } => change::create_database(context, &name, if_not_exists),
            Command::DropDatabase { name, if_exists } => change::drop_database(context, &name, if_exists),
            Command::CreateTable { name, columns, properties, how } => {
                change::create_table(context, &name, &columns, properties, how)
            }
            Command::DropTables { names, if_exists } => change::drop_tables(context, &names, if_exists),
            Command::CreateFunction { function, how } => change::create_function(context, function, how).await,
            Command::DropFunctions { names, if_exists } => change::drop_functions(context, &names, if_exists),
            Command::CreateMaterializedView(view) => materialized_views::create(context, view).await,
            Command::DropMaterializedView { name, if_exists } => {
                materialized_views::drop_view(context, &name, if_exists)
            }
            Command::EntityGroup { name, change } => change::entity_group(context, &name, change),
            Command::AlterPolicy { target, change } => policies::alter(context, &target, change),
            Command::AddPrincipals { owner, database, role, principals, notes } => {
                principals::add(context, &owner, database.as_deref(), &role, &principals, &notes)
            }
            Command::CreateMapping { table, kind, name, text, how } => {
                change::create_mapping(context, &table, kind, &name, &text, how)
            }
            Command::IngestInline { table, format, mapping, ignore_first_record, data } => data::ingest_inline(
                context,
                &table,
                format.as_deref(),
                mapping.as_deref(),
                ignore_first_record,
                text.get(data..).unwrap_or_default(),
            ),
            Command::SetOrAppend { table, properties, query } => {
                data::set_or_append(context, &table, properties, text.get(query..).unwrap_or_default()).await
            }
            Command::Script { on_error, script } => {
                script::run(context, on_error, text.get(script..).unwrap_or_default()).await
            }
            Command::ClearRemoteSchema { cluster, database } => {
                context.query.remote.clear(&cluster, &database);
                let status = format!("Cache cleared for database {database}");
                Ok(answer::strings(["NodeId", "Status"], [["0".to_owned(), status]]))
            }
        }
    })
}
