//! `.show ...`. Pure.

use kql::syntax::parser::Parser;

use super::{
    parts::{Properties, list, name, name_list, unsupported},
    policy,
};
use crate::{
    catalog::{MappingKind, PrincipalOwner},
    commands::command::{Command, PolicyTarget, SchemaForm, SchemaOf, SchemaParts, Show, TableForm},
    error::KustoError,
};

pub(super) fn show(parser: &mut Parser<'_>) -> Result<Command, KustoError> {
    parser.hyphenated()?;
    let word = parser.peek()?.text;
    let show = match word {
        "version" => simple(parser, Show::Version)?,
        "cluster" => simple(parser, Show::Cluster)?,
        "diagnostics" => simple(parser, Show::Diagnostics)?,
        "functions" => simple(parser, Show::Functions)?,
        "entity_groups" => simple(parser, Show::EntityGroups)?,
        "function" => {
            parser.next_token()?;
            Show::Function(name(parser, "function")?)
        }
        "entity_group" => {
            parser.next_token()?;
            Show::EntityGroup(name(parser, "entity group")?)
        }
        "tables" => {
            parser.next_token()?;
            Show::Tables(if parser.at("(")? { name_list(parser, "table")? } else { Vec::new() })
        }
        "table" => {
            parser.next_token()?;
            table(parser)?
        }
        "column" => {
            parser.next_token()?;
            let target = policy::column(parser)?;
            Show::Policy { target, kind: policy::kind(parser)? }
        }
        "databases" => {
            parser.next_token()?;
            databases(parser)?
        }
        "database" => {
            parser.next_token()?;
            database(parser)?
        }
        _ if parser.eat_hyphenated("materialized-views")? => Show::MaterializedViews,
        _ => return unsupported(parser, "'.show' of this is not supported by this server"),
    };
    Ok(Command::Show(show))
}

fn simple(parser: &mut Parser<'_>, show: Show) -> Result<Show, KustoError> {
    parser.next_token()?;
    Ok(show)
}

fn table(parser: &mut Parser<'_>) -> Result<Show, KustoError> {
    let name = name(parser, "table")?;
    Ok(match parser.peek()?.text {
        "cslschema" => simple(parser, Show::Table { name, form: TableForm::Csl })?,
        "schema" => {
            parser.next_token()?;
            parser.expect("as")?;
            parser.expect("json")?;
            Show::Table { name, form: TableForm::Json }
        }
        "policy" => Show::Policy { target: PolicyTarget::Table(name), kind: policy::kind(parser)? },
        "principals" => simple(parser, Show::Principals { owner: PrincipalOwner::Table(name), database: None })?,
        "ingestion" => {
            parser.next_token()?;
            mappings(parser, name)?
        }
        "|" | "" => Show::Table { name, form: TableForm::Attributes },
        _ => return unsupported(parser, "this part of '.show table' is not supported by this server"),
    })
}

/// `ingestion [csv|json] mappings`, `ingestion csv mapping "M"`
fn mappings(parser: &mut Parser<'_>, table: String) -> Result<Show, KustoError> {
    let kind = mapping_kind(parser)?;
    if parser.eat("mappings")? {
        return Ok(Show::Mappings { table, kind, name: None });
    }
    parser.expect("mapping")?;
    Ok(Show::Mappings { table, kind, name: Some(parser.string()?) })
}

/// `csv` or `json`, if one of them is next.
pub(super) fn mapping_kind(parser: &mut Parser<'_>) -> Result<Option<MappingKind>, KustoError> {
    Ok(if parser.eat("csv")? {
        Some(MappingKind::Csv)
    } else if parser.eat("json")? {
        Some(MappingKind::Json)
    } else {
        None
    })
}

fn databases(parser: &mut Parser<'_>) -> Result<Show, KustoError> {
    match parser.peek()?.text {
        "entities" => {
            parser.next_token()?;
            let mut properties = Properties::read(parser)?;
            // The documentation writes the name in two ways.
            let resolve = [properties.flag("resolveFunctionsSchema")?, properties.flag("resolveFunctionSchema")?];
            // There are no obfuscated strings here, so showing them changes nothing.
            properties.flag("showObfuscatedStrings")?;
            properties.finish()?;
            Ok(Show::DatabasesEntities { resolve_functions: resolve.contains(&true) })
        }
        "(" => {
            let databases = list(parser, |parser| {
                let name = Some(name(parser, "database")?);
                Ok(SchemaOf { name, if_later_than: if_later_than(parser)? })
            })?;
            parser.expect("schema")?;
            schema(parser, databases)
        }
        "schema" => {
            parser.next_token()?;
            schema(parser, Vec::new())
        }
        "|" | "" => Ok(Show::Databases),
        _ => unsupported(parser, "this part of '.show databases' is not supported by this server"),
    }
}

fn database(parser: &mut Parser<'_>) -> Result<Show, KustoError> {
    let found = match parser.peek()?.text {
        "|" | "" => return Ok(Show::Database(None)),
        // `.show database schema` is about the request's database, unless one is called that.
        "schema" if !follows(parser, &["schema", "policy", "principals"])? => None,
        _ => Some(name(parser, "database")?),
    };
    match (parser.peek()?.text, found) {
        ("schema", name) => {
            parser.next_token()?;
            schema(parser, vec![SchemaOf { name, if_later_than: None }])
        }
        ("policy", Some(name)) => {
            Ok(Show::Policy { target: PolicyTarget::Database(name), kind: policy::kind(parser)? })
        }
        ("principals", name) => simple(parser, Show::Principals { owner: PrincipalOwner::Database, database: name }),
        ("|" | "", name) => Ok(Show::Database(name)),
        _ => unsupported(parser, "this part of '.show database' is not supported by this server"),
    }
}

/// Whether one of the words stands behind the next token.
fn follows(parser: &mut Parser<'_>, words: &[&str]) -> Result<bool, KustoError> {
    let mut ahead = parser.clone();
    ahead.next_token()?;
    Ok(words.contains(&ahead.peek()?.text))
}

/// What stands behind the word `schema`: `details`, `if_later_than "v1.2"`, `as json`, `with (...)`, in this order.
fn schema(parser: &mut Parser<'_>, mut databases: Vec<SchemaOf>) -> Result<Show, KustoError> {
    let mut form = SchemaForm::Flat;
    parser.eat("details")?;
    if let Some(version) = if_later_than(parser)? {
        for database in &mut databases {
            database.if_later_than = Some(version);
        }
    }
    if parser.eat("as")? {
        if !parser.eat("json")? {
            return unsupported(parser, "this form of a schema is not supported by this server");
        }
        form = SchemaForm::Json;
    }
    let mut properties = Properties::read(parser)?;
    let include = SchemaParts {
        tables: properties.optional_flag("Tables")?,
        functions: properties.optional_flag("Functions")?,
        materialized_views: properties.optional_flag("MaterializedViews")?,
        external_tables: properties.optional_flag("ExternalTables")?,
    };
    properties.finish()?;
    Ok(Show::Schema { databases, form, include })
}

/// `if_later_than "v1.2"`
fn if_later_than(parser: &mut Parser<'_>) -> Result<Option<(u64, u64)>, KustoError> {
    if !parser.eat("if_later_than")? {
        return Ok(None);
    }
    let start = parser.peek()?.span.start;
    let text = parser.string()?;
    let version = text.strip_prefix('v').and_then(|rest| {
        let (major, minor) = rest.trim_start_matches('.').split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    match version {
        Some(version) => Ok(Some(version)),
        None => Err(KustoError::syntax(format!("'{text}' is no schema version: expected a form such as \"v1.2\""))
            .at_offset(parser.text(), start)),
    }
}
