//! `.create`, `.create-merge` and `.create-or-alter`. Pure.

use kql::syntax::parser::Parser;

use super::{
    parts::{Properties, columns, entities, name, one_string, unsupported},
    show::mapping_kind,
};
use crate::{
    commands::command::{
        Command, CreateFunction, CreateMapping, CreateTable, EntityGroupChange, NewFunction, NewMaterializedView,
    },
    error::KustoError,
};

pub(super) fn create(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    match parser.peek()?.text {
        "database" => database(parser),
        "table" => {
            if mapping_ahead(parser)? {
                return mapping(parser, CreateMapping::Create);
            }
            parser.next_token()?;
            table(parser, CreateTable::Create)
        }
        "function" => function(parser, CreateFunction::Create),
        "entity_group" => entity_group(parser),
        "ifnotexists" => {
            parser.next_token()?;
            if !parser.eat_hyphenated("materialized-view")? {
                return Ok(parser.expected("'materialized-view'")?);
            }
            materialized_view(parser, true)
        }
        _ if parser.eat_hyphenated("materialized-view")? => materialized_view(parser, false),
        _ => unsupported(parser, "'.create' of this is not supported by this server"),
    }
}

pub(super) fn create_merge(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    if !parser.eat("table")? {
        return unsupported(parser, "'.create-merge' of this is not supported by this server");
    }
    table(parser, CreateTable::CreateMerge)
}

pub(super) fn create_or_alter(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    match parser.peek()?.text {
        "function" => function(parser, CreateFunction::CreateOrAlter),
        "table" if mapping_ahead(parser)? => mapping(parser, CreateMapping::CreateOrAlter),
        // `.create-or-alter entity_group` too: Microsoft's parser accepts it, its documentation does not know it.
        _ => unsupported(parser, "'.create-or-alter' of this is not supported by this server"),
    }
}

/// `database D [volatile | persist (...)] [ifnotexists]`
fn database(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.next_token()?;
    let name = name(parser, "database")?;
    if parser.eat("persist")? {
        // Where the service would keep it. Nothing is kept here, so the paths are read and left alone.
        super::string_list(parser)?;
    } else {
        parser.eat("volatile")?;
    }
    Ok(Command::CreateDatabase { name, if_not_exists: parser.eat("ifnotexists")? })
}

/// `T (a:long, ...) with (folder='...', docstring='...')`
pub(super) fn table(parser: &mut Parser<'_>, how: CreateTable) -> Result<Command, KustoError> {
    let name = name(parser, "table")?;
    if !parser.at("(")? {
        return unsupported(parser, "this part of the command is not supported by this server");
    }
    let columns = columns(parser)?;
    let mut properties = Properties::read(parser)?;
    let entity = properties.entity()?;
    properties.finish()?;
    Ok(Command::CreateTable { name, columns, properties: entity, how })
}

/// `function [ifnotexists] [with (...)] F(a:long) { body }`
pub(super) fn function(parser: &mut Parser<'_>, how: CreateFunction) -> Result<Command, KustoError> {
    parser.next_token()?;
    let how = match how {
        CreateFunction::Create if parser.eat("ifnotexists")? => CreateFunction::CreateIfNotExists,
        how => how,
    };
    let mut properties = Properties::read(parser)?;
    let entity = properties.entity()?;
    let skip_validation = properties.flag("skipvalidation")?;
    let view = properties.flag("view")?;
    properties.finish()?;
    let name = name(parser, "function")?;
    let start = parser.offset();
    let mut literal = parser.function_literal()?;
    literal.view |= view;
    let text = &parser.text()[start..parser.offset()];
    let (parameters, body) = split_function(text)?;
    let function = NewFunction { name, literal, parameters, body, properties: entity, skip_validation };
    Ok(Command::CreateFunction { function, how })
}

/// Parameters and body of a function's text, as written.
fn split_function(text: &str) -> Result<(String, String), KustoError> {
    let mut parser = Parser::new(text);
    let mut depth = 0_usize;
    let start = parser.peek()?.span.start;
    loop {
        let token = parser.next_token()?;
        if token.is("(") {
            depth += 1;
        } else if token.is(")") {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                break;
            }
        } else if parser.at_end()? {
            break;
        }
    }
    Ok((text[start..parser.offset()].to_owned(), parser.rest().trim().to_owned()))
}

/// `[ifnotexists] materialized-view [with (...)] V on table T { query }`
fn materialized_view(parser: &mut Parser<'_>, if_not_exists: bool) -> Result<Command, KustoError> {
    let mut properties = Properties::read(parser)?;
    let entity = properties.entity()?;
    properties.finish()?;
    let name = name(parser, "materialized view")?;
    parser.expect("on")?;
    parser.expect("table")?;
    let source = super::parts::name(parser, "table")?;
    let start = parser.offset();
    let query = parser.function_body()?;
    let text = parser.text()[start..parser.offset()].trim().to_owned();
    let view = NewMaterializedView { name, source, query, text, properties: entity, if_not_exists };
    Ok(Command::CreateMaterializedView(view))
}

/// `entity_group G [ifnotexists] (...)`
fn entity_group(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.next_token()?;
    let name = name(parser, "entity group")?;
    let if_not_exists = parser.eat("ifnotexists")?;
    Ok(Command::EntityGroup { name, change: EntityGroupChange::Create { entities: entities(parser)?, if_not_exists } })
}

/// Whether `table T ingestion ...` is next.
pub(super) fn mapping_ahead(parser: &mut Parser<'_>) -> Result<bool, KustoError> {
    let mut ahead = parser.clone();
    if ahead.next_token()?.text != "table" {
        return Ok(false);
    }
    name(&mut ahead, "table")?;
    Ok(ahead.at("ingestion")?)
}

/// `table T ingestion csv mapping "M" '[...]'`
pub(super) fn mapping(parser: &mut Parser<'_>, how: CreateMapping) -> Result<Command, KustoError> {
    parser.next_token()?;
    let table = name(parser, "table")?;
    parser.expect("ingestion")?;
    let Some(kind) = mapping_kind(parser)? else {
        return unsupported(parser, "this kind of mapping is not supported by this server: use csv or json");
    };
    parser.expect("mapping")?;
    let (name, text) = (one_string(parser)?, one_string(parser)?);
    Ok(Command::CreateMapping { table, kind, name, text, how })
}
