//! Pieces that commands share: names, lists, `with (...)`, entity references. Pure.

use kql::{
    names::MAX_NAME_CHARS,
    syntax::{parser::Parser, token::TokenKind},
    types::ScalarType,
};

use crate::{
    catalog::Entity,
    commands::command::EntityProperties,
    error::{KustoError, KustoErrorKind},
    rows::Column,
};

/// A refusal by name: the rest of the command's words, and where they stand.
pub(super) fn unsupported<T>(parser: &mut Parser<'_>, message: &str) -> Result<T, KustoError> {
    let token = parser.peek()?;
    let text = parser.text();
    let words: Vec<&str> = text.split_whitespace().take(4).collect();
    let mut shown: String = words.join(" ").chars().take(60).collect();
    if shown.is_empty() {
        shown.push_str("(nothing)");
    }
    Err(KustoError::new(KustoErrorKind::Unsupported, format!("{message}: {} in '{shown}'", token.describe()))
        .at_offset(text, token.span.start))
}

/// A name of Kusto's documented set, bare or in brackets and quotes.
pub(super) fn name(parser: &mut Parser<'_>, what: &str) -> Result<String, KustoError> {
    let start = parser.peek()?.span.start;
    let name = parser.name()?.name;
    let refused = |why: &str| {
        let mut shown: String = name.chars().take(64).collect();
        if shown.len() < name.len() {
            shown.push('…');
        }
        Err(KustoError::syntax(format!("the {what} name {shown:?} {why}")).at_offset(parser.text(), start))
    };
    if name.chars().count() > MAX_NAME_CHARS {
        return refused("is longer than 1024 characters");
    }
    if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ' ' | '.' | '-')) {
        return refused("holds a character other than letters, digits, '_', ' ', '.' and '-'");
    }
    if name.starts_with("__") || name.ends_with("__") {
        return refused("is reserved: it starts or ends with '__'");
    }
    Ok(name)
}

/// `(A, ['b c'])`; at least one.
pub(super) fn name_list(parser: &mut Parser<'_>, what: &str) -> Result<Vec<String>, KustoError> {
    list(parser, |parser| name(parser, what))
}

/// `('a', "b")`; at least one.
pub(super) fn string_list(parser: &mut Parser<'_>) -> Result<Vec<String>, KustoError> {
    list(parser, |parser| Ok(parser.string()?))
}

/// One string literal. [`Parser::string`] would take the next one as its continuation, and commands have strings side by side that are not one.
pub(super) fn one_string(parser: &mut Parser<'_>) -> Result<String, KustoError> {
    let token = parser.peek()?;
    if token.kind != TokenKind::String {
        return Ok(parser.expected("a string")?);
    }
    parser.next_token()?;
    Parser::new(token.text)
        .string()
        .map_err(|error| KustoError::syntax(error.message).at_offset(parser.text(), token.span.start + error.offset))
}

pub(super) fn list<'a, T>(
    parser: &mut Parser<'a>,
    mut item: impl FnMut(&mut Parser<'a>) -> Result<T, KustoError>,
) -> Result<Vec<T>, KustoError> {
    parser.expect("(")?;
    let mut items = vec![item(parser)?];
    while parser.eat(",")? {
        items.push(item(parser)?);
    }
    parser.expect(")")?;
    Ok(items)
}

/// `ifexists`
pub(super) fn if_exists(parser: &mut Parser<'_>) -> Result<bool, KustoError> {
    Ok(parser.eat("ifexists")?)
}

/// `(a:long, ['b c']:string)`; at least one, no name twice.
pub(super) fn columns(parser: &mut Parser<'_>) -> Result<Vec<Column>, KustoError> {
    let start = parser.peek()?.span.start;
    let columns = list(parser, |parser| {
        let name = name(parser, "column")?;
        parser.expect(":")?;
        Ok(Column::new(name, scalar_type(parser)?))
    })?;
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].iter().any(|earlier| earlier.name == column.name) {
            return Err(KustoError::bad_request(format!("column '{}' is declared twice", column.name))
                .at_offset(parser.text(), start));
        }
    }
    Ok(columns)
}

fn scalar_type(parser: &mut Parser<'_>) -> Result<ScalarType, KustoError> {
    let mut ahead = parser.clone();
    let token = ahead.next_token()?;
    let mut text = token.text.to_owned();
    // `System.Data.SqlTypes.SqlDecimal` and its like.
    while ahead.at(".")? {
        ahead.next_token()?;
        text.push('.');
        text.push_str(ahead.next_token()?.text);
    }
    match text.parse() {
        Ok(scalar_type) => {
            *parser = ahead;
            Ok(scalar_type)
        }
        Err(unknown) => Err(KustoError::syntax(format!("{unknown}")).at_offset(parser.text(), token.span.start)),
    }
}

/// `(cluster('a').database('b'), database('c'))`; at least one, none twice.
pub(super) fn entities(parser: &mut Parser<'_>) -> Result<Vec<Entity>, KustoError> {
    let start = parser.peek()?.span.start;
    let entities = list(parser, entity_reference)?;
    for (index, entity) in entities.iter().enumerate() {
        if entities[..index].contains(entity) {
            return Err(KustoError::semantic("SEM0614", format!("the entity {} is listed twice", entity.text()))
                .at_offset(parser.text(), start));
        }
    }
    Ok(entities)
}

/// `cluster('a').database('b')` or `database('b')`.
pub(super) fn entity_reference(parser: &mut Parser<'_>) -> Result<Entity, KustoError> {
    let cluster = if parser.eat("cluster")? {
        parser.expect("(")?;
        // `cluster()` compares without regard to case, so one spelling is stored.
        let cluster = parser.string()?.to_lowercase();
        parser.expect(")")?;
        parser.expect(".")?;
        Some(cluster)
    } else {
        None
    };
    if !parser.at("database")? {
        return Ok(parser.expected("database('...') or cluster('...').database('...')")?);
    }
    parser.next_token()?;
    parser.expect("(")?;
    let database = parser.string()?;
    parser.expect(")")?;
    if parser.at(".")? {
        return unsupported(parser, "an entity of a group is a database, not a part of one");
    }
    Ok(Entity { cluster, database })
}

/// `with (name = value, ...)`, each read by what asks for it; what nobody asked for is refused.
#[derive(Debug)]
pub(super) struct Properties {
    entries: Vec<(String, String, (usize, usize))>,
}

impl Properties {
    /// Reads `with (...)` if it is next.
    pub(super) fn read(parser: &mut Parser<'_>) -> Result<Self, KustoError> {
        let mut entries = Vec::new();
        if parser.eat("with")? {
            parser.expect("(")?;
            while !parser.at(")")? {
                let start = parser.peek()?.span.start;
                let name = parser.name()?.name;
                parser.expect("=")?;
                let value = match parser.peek()?.kind {
                    TokenKind::String => parser.string()?,
                    TokenKind::Word | TokenKind::Long | TokenKind::Timespan => parser.next_token()?.text.to_owned(),
                    _ => return Ok(parser.expected("a value")?),
                };
                entries.push((name, value, crate::error::line_and_column(parser.text(), start)));
                if !parser.eat(",")? {
                    break;
                }
            }
            parser.expect(")")?;
        }
        Ok(Self { entries })
    }

    /// The value of a property, in any case of its name.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, KustoError> {
        let Some(at) = self.entries.iter().position(|(key, ..)| key.eq_ignore_ascii_case(name)) else {
            return Ok(None);
        };
        let (_, value, _) = self.entries.remove(at);
        match self.entries.iter().find(|(key, ..)| key.eq_ignore_ascii_case(name)) {
            Some((_, _, position)) => {
                Err(KustoError::syntax(format!("the property '{name}' is given twice")).at(*position))
            }
            None => Ok(Some(value)),
        }
    }

    /// A property that is true or false; absent is `None`.
    pub(super) fn optional_flag(&mut self, name: &str) -> Result<Option<bool>, KustoError> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => {
                Err(KustoError::bad_request(format!("the property '{name}' is '{text}': expected true or false")))
            }
        }
    }

    /// A property that is true or false; absent is false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, KustoError> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }

    /// `folder` and `docstring`.
    pub(super) fn entity(&mut self) -> Result<EntityProperties, KustoError> {
        Ok(EntityProperties { folder: self.text("folder")?, docstring: self.text("docstring")? })
    }

    /// To be called when everything known has been asked for.
    pub(super) fn finish(self) -> Result<(), KustoError> {
        match self.entries.first() {
            Some((name, _, position)) => {
                Err(KustoError::unsupported(format!("the property '{name}' is not supported by this server"))
                    .at(*position))
            }
            None => Ok(()),
        }
    }
}
