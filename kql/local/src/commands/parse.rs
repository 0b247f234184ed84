//! From the text of a management command to a [`Command`]. Pure; built on the language's own lexer, so that names and strings mean the same here as in queries.
//!
//! What is not read here is refused with its name and position: a command is never taken for another one.

mod create;
mod parts;
mod policy;
mod show;

use kql::syntax::parser::Parser;

use super::command::{Command, CreateTable, EntityGroupChange, OnError, PipedCommand};
use crate::{catalog::PrincipalOwner, error::KustoError};
use parts::{Properties, entities, entity_reference, if_exists, name, name_list, string_list, unsupported};

/// Reads one command with the operators after it.
///
/// # Errors
/// What was expected and where, or the name of a command that this server does not know.
pub(crate) fn parse(text: &str) -> Result<PipedCommand, KustoError> {
    let mut parser = Parser::new(text);
    parser.expect(".")?;
    let command = match parser.peek_hyphenated()?.unwrap_or_default() {
        "show" => show::show(&mut parser)?,
        "create" => create::create(&mut parser)?,
        "create-merge" => create::create_merge(&mut parser)?,
        "create-or-alter" => create::create_or_alter(&mut parser)?,
        "alter" => alter(&mut parser)?,
        "alter-merge" => alter_merge(&mut parser)?,
        "drop" => drop_entity(&mut parser)?,
        "add" => add(&mut parser)?,
        "ingest" => return ingest_inline(&mut parser).map(without_operators),
        "set-or-append" => return set_or_append(&mut parser).map(without_operators),
        "execute" => return execute_script(&mut parser).map(without_operators),
        "clear" => clear(&mut parser)?,
        _ => return unsupported(&mut parser, "this command is not supported by this server"),
    };
    let operators = if parser.eat("|")? { parser.operators()? } else { Vec::new() };
    parser.expect_end()?;
    Ok(PipedCommand { command, operators })
}

const fn without_operators(command: Command) -> PipedCommand {
    PipedCommand { command, operators: Vec::new() }
}

fn alter(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    match parser.peek()?.text {
        "entity_group" => {
            parser.next_token()?;
            let name = name(parser, "entity group")?;
            Ok(Command::EntityGroup { name, change: EntityGroupChange::Alter(entities(parser)?) })
        }
        "function" => create::function(parser, super::command::CreateFunction::Alter),
        "database" | "table" | "column" => match create::mapping_ahead(parser)? {
            true => create::mapping(parser, super::command::CreateMapping::Alter),
            false => policy::alter(parser, false),
        },
        _ => unsupported(parser, "'.alter' of this is not supported by this server"),
    }
}

fn alter_merge(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    match parser.peek()?.text {
        "entity_group" => {
            parser.next_token()?;
            let name = name(parser, "entity group")?;
            Ok(Command::EntityGroup { name, change: EntityGroupChange::AlterMerge(entities(parser)?) })
        }
        "table" => {
            let mut ahead = parser.clone();
            ahead.next_token()?;
            name(&mut ahead, "table")?;
            if ahead.at("policy")? {
                policy::alter(parser, true)
            } else {
                parser.next_token()?;
                create::table(parser, CreateTable::AlterMerge)
            }
        }
        "database" => policy::alter(parser, true),
        _ => unsupported(parser, "'.alter-merge' of this is not supported by this server"),
    }
}

fn drop_entity(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    match parser.peek()?.text {
        "database" => {
            parser.next_token()?;
            Ok(Command::DropDatabase { name: name(parser, "database")?, if_exists: if_exists(parser)? })
        }
        "table" => {
            parser.next_token()?;
            Ok(Command::DropTables { names: vec![name(parser, "table")?], if_exists: if_exists(parser)? })
        }
        "tables" => {
            parser.next_token()?;
            Ok(Command::DropTables { names: name_list(parser, "table")?, if_exists: if_exists(parser)? })
        }
        "function" => {
            parser.next_token()?;
            Ok(Command::DropFunctions { names: vec![name(parser, "function")?], if_exists: if_exists(parser)? })
        }
        "functions" => {
            parser.next_token()?;
            Ok(Command::DropFunctions { names: name_list(parser, "function")?, if_exists: if_exists(parser)? })
        }
        "entity_group" => {
            parser.next_token()?;
            // Kusto has no `ifexists` here: what follows the name is an error.
            Ok(Command::EntityGroup { name: name(parser, "entity group")?, change: EntityGroupChange::Drop })
        }
        _ if parser.eat_hyphenated("materialized-view")? => Ok(Command::DropMaterializedView {
            name: name(parser, "materialized view")?,
            if_exists: if_exists(parser)?,
        }),
        _ => unsupported(parser, "'.drop' of this is not supported by this server"),
    }
}

/// `.add table T ingestors ('aadapp=id;tenant') 'notes'`
fn add(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    const DATABASE_ROLES: [&str; 6] = ["admins", "users", "viewers", "unrestrictedviewers", "ingestors", "monitors"];
    const TABLE_ROLES: [&str; 2] = ["admins", "ingestors"];
    parser.hyphenated()?;
    let (owner, database, roles) = match parser.peek()?.text {
        "database" => {
            parser.next_token()?;
            (PrincipalOwner::Database, Some(name(parser, "database")?), DATABASE_ROLES.as_slice())
        }
        "table" => {
            parser.next_token()?;
            (PrincipalOwner::Table(name(parser, "table")?), None, TABLE_ROLES.as_slice())
        }
        _ => return unsupported(parser, "'.add' to this is not supported by this server"),
    };
    let role = parser.peek()?.text;
    if !roles.contains(&role) {
        return Ok(parser.expected(&format!("a role ({})", roles.join(", ")))?);
    }
    parser.next_token()?;
    let principals = string_list(parser)?;
    parser.eat_hyphenated("skip-results")?;
    let notes =
        if parser.peek()?.kind == kql::syntax::token::TokenKind::String { parser.string()? } else { String::new() };
    Ok(Command::AddPrincipals { owner, database, role: role.to_owned(), principals, notes })
}

/// `.ingest inline into table T with (format='csv') <| data`
fn ingest_inline(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    if !parser.eat("inline")? {
        return unsupported(parser, "'.ingest' from storage is not supported by this server: use '.ingest inline'");
    }
    parser.expect("into")?;
    parser.eat("table")?;
    let table = name(parser, "table")?;
    let mut properties = Properties::read(parser)?;
    let format = properties.text("format")?;
    let mapping = properties.text("ingestionMappingReference")?;
    let ignore_first_record = properties.flag("ignoreFirstRecord")?;
    properties.finish()?;
    parser.expect("<|")?;
    Ok(Command::IngestInline { table, format, mapping, ignore_first_record, data: parser.offset() })
}

/// `.set-or-append T <| query`
fn set_or_append(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    let table = name(parser, "table")?;
    let mut properties = Properties::read(parser)?;
    let entity = properties.entity()?;
    properties.finish()?;
    parser.expect("<|")?;
    Ok(Command::SetOrAppend { table, properties: entity, query: parser.offset() })
}

/// `.execute database script with (ContinueOnErrors=true) <| script`
fn execute_script(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    if !parser.at("database")? {
        return unsupported(parser, "only '.execute database script' is supported by this server");
    }
    parser.next_token()?;
    parser.expect("script")?;
    let mut properties = Properties::read(parser)?;
    let on_error = match (properties.flag("ContinueOnErrors")?, properties.flag("ThrowOnErrors")?) {
        (true, true) => {
            return Err(KustoError::bad_request(
                "ContinueOnErrors and ThrowOnErrors do not work together: set one of them",
            ));
        }
        (true, false) => OnError::Continue,
        (false, true) => OnError::Throw,
        (false, false) => OnError::Stop,
    };
    properties.finish()?;
    parser.expect("<|")?;
    Ok(Command::Script { on_error, script: parser.offset() })
}

/// `.clear cache remote-schema cluster('C').database('D')`
fn clear(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    if !parser.eat("cache")? || !parser.eat_hyphenated("remote-schema")? {
        return unsupported(parser, "only '.clear cache remote-schema' is supported by this server");
    }
    let start = parser.peek()?.span.start;
    let entity = entity_reference(parser)?;
    let cluster = entity
        .cluster
        .ok_or_else(|| KustoError::syntax("expected cluster('...').database('...')").at_offset(parser.text(), start))?;
    Ok(Command::ClearRemoteSchema { cluster, database: entity.database })
}

#[cfg(test)]
mod tests;
