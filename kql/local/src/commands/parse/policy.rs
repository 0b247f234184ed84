//! `.alter ... policy ...` and the policies that `.show` asks for. Pure.

use kql::{
    literal::TICKS_PER_DAY,
    syntax::{parser::Parser, token::TokenKind},
};
use serde_json::Value;

use super::parts::{name, unsupported};
use crate::{
    catalog::policy::{Encoding, PolicyKind},
    commands::command::{Command, PolicyChange, PolicyTarget},
    error::KustoError,
    rows::parse_timespan,
};

/// `T.C`
pub(super) fn column(parser: &mut Parser<'_>) -> Result<PolicyTarget, KustoError> {
    let table = name(parser, "table")?;
    parser.expect(".")?;
    Ok(PolicyTarget::Column { table, column: name(parser, "column")? })
}

/// `policy retention`
pub(super) fn kind(parser: &mut Parser<'_>) -> Result<PolicyKind, KustoError> {
    parser.expect("policy")?;
    match PolicyKind::of_keyword(parser.peek()?.text) {
        Some(kind) => {
            parser.next_token()?;
            Ok(kind)
        }
        None => unsupported(parser, "this policy is not supported by this server"),
    }
}

/// From `table T policy ...` on; `merge` is the command's `alter-merge`.
pub(super) fn alter(parser: &mut Parser<'_>, merge: bool) -> Result<Command, KustoError> {
    let target = match parser.next_token()?.text {
        "database" => PolicyTarget::Database(name(parser, "database")?),
        "column" => column(parser)?,
        _ => PolicyTarget::Table(name(parser, "table")?),
    };
    if !parser.at("policy")? {
        return unsupported(parser, "only policies can be altered here");
    }
    let kind = kind(parser)?;
    let change = match kind {
        PolicyKind::Retention => retention(parser, merge)?,
        PolicyKind::Caching => caching(parser)?,
        PolicyKind::StreamingIngestion => streaming_ingestion(parser)?,
        PolicyKind::IngestionBatching => PolicyChange::IngestionBatching(json(parser)?),
        PolicyKind::Encoding => encoding(parser)?,
    };
    let is_column = matches!(target, PolicyTarget::Column { .. });
    if is_column != (kind == PolicyKind::Encoding) {
        return unsupported(parser, "this policy is not supported on this kind of entity by this server");
    }
    Ok(Command::AlterPolicy { target, change })
}

fn retention(parser: &mut Parser<'_>, merge: bool) -> Result<PolicyChange, KustoError> {
    if parser.peek()?.kind == TokenKind::String {
        return Ok(PolicyChange::RetentionJson { value: json(parser)?, merge });
    }
    let (mut soft_delete_ticks, mut recoverable) = (None, None);
    loop {
        if parser.eat("softdelete")? {
            parser.expect("=")?;
            soft_delete_ticks = Some(span(parser)?);
        } else if parser.eat("recoverability")? {
            parser.expect("=")?;
            recoverable = Some(if parser.eat("enabled")? {
                true
            } else if parser.eat("disabled")? {
                false
            } else {
                return Ok(parser.expected("enabled or disabled")?);
            });
        } else {
            break;
        }
    }
    if soft_delete_ticks.is_none() && recoverable.is_none() {
        return Ok(parser.expected("softdelete = ..., recoverability = ... or a policy in JSON")?);
    }
    Ok(PolicyChange::Retention { soft_delete_ticks, recoverable, merge })
}

fn caching(parser: &mut Parser<'_>) -> Result<PolicyChange, KustoError> {
    if parser.peek()?.kind == TokenKind::String {
        return Ok(PolicyChange::CachingJson(json(parser)?));
    }
    if parser.eat("hot")? {
        parser.expect("=")?;
        let ticks = span(parser)?;
        return Ok(PolicyChange::Caching { data_ticks: ticks, index_ticks: ticks });
    }
    parser.expect("hotdata")?;
    parser.expect("=")?;
    let data_ticks = span(parser)?;
    parser.expect("hotindex")?;
    parser.expect("=")?;
    Ok(PolicyChange::Caching { data_ticks, index_ticks: span(parser)? })
}

fn streaming_ingestion(parser: &mut Parser<'_>) -> Result<PolicyChange, KustoError> {
    if parser.eat("enable")? {
        return Ok(PolicyChange::StreamingIngestion(true));
    }
    if parser.eat("disable")? {
        return Ok(PolicyChange::StreamingIngestion(false));
    }
    if parser.peek()?.kind == TokenKind::String {
        return Ok(PolicyChange::StreamingIngestionJson(json(parser)?));
    }
    Ok(parser.expected("enable, disable or a policy in JSON")?)
}

fn encoding(parser: &mut Parser<'_>) -> Result<PolicyChange, KustoError> {
    if !parser.eat("type")? {
        return Ok(PolicyChange::Encoding(Encoding::Null));
    }
    parser.expect("=")?;
    let start = parser.peek()?.span.start;
    let name = parser.string()?;
    match Encoding::of_name(&name) {
        Some(encoding) => Ok(PolicyChange::Encoding(encoding)),
        None => Err(KustoError::unsupported(format!("the encoding '{name}' is not supported by this server"))
            .at_offset(parser.text(), start)),
    }
}

fn json(parser: &mut Parser<'_>) -> Result<Value, KustoError> {
    let start = parser.peek()?.span.start;
    let text = parser.string()?;
    serde_json::from_str(&text).map_err(|error| {
        KustoError::bad_request(format!("the policy is no JSON: {error}")).at_offset(parser.text(), start)
    })
}

/// `7d`, `12h`, `time(7.00:00:00)`; never negative.
fn span(parser: &mut Parser<'_>) -> Result<i64, KustoError> {
    let token = parser.peek()?;
    let ticks = match token.kind {
        TokenKind::Timespan => {
            parser.next_token()?;
            parse_timespan(token.text)
        }
        TokenKind::Long if token.text.trim_start_matches('0').is_empty() => {
            parser.next_token()?;
            Some(0)
        }
        TokenKind::Word if matches!(token.text, "time" | "timespan") => {
            parser.next_token()?;
            parser.expect("(")?;
            let start = parser.offset();
            let end = parser.text()[start..].find(')').map_or(start, |length| start + length);
            let inner = parser.text()[start..end].to_owned();
            while !parser.at(")")? && !parser.at_end()? {
                parser.next_token()?;
            }
            parser.expect(")")?;
            parse_timespan(&inner)
        }
        _ => return Ok(parser.expected("a timespan such as 7d")?),
    };
    // Kusto's own bound is a hundred years on some policies and a thousand on others; what does not fit a datetime makes no sense on any.
    ticks.filter(|ticks| (0..=3_652_059 * TICKS_PER_DAY).contains(ticks)).ok_or_else(|| {
        KustoError::syntax(format!("{} is no timespan for a policy", token.describe()))
            .at_offset(parser.text(), token.span.start)
    })
}
