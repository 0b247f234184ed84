//! What Kusto knows and this implementation does not, so that it is refused by name instead of as a spelling mistake. Pure tables and checks.

use super::{Parser, Result};
use crate::syntax::token::Token;

/// Tabular operators, by the words behind `|`.
pub(super) const OPERATORS: &[&str] = &[
    "assert-schema",
    "consume",
    "evaluate",
    "execute_and_cache",
    "externaldata",
    "facet",
    "find",
    "fork",
    "graph-mark-components",
    "graph-match",
    "graph-shortest-paths",
    "graph-to-table",
    "graph-where-edges",
    "graph-where-nodes",
    "invoke",
    "lookup",
    "macro-expand",
    "make-graph",
    "make-series",
    "mv-apply",
    "mvapply",
    "parse",
    "parse-kv",
    "parse-where",
    "partition",
    "partition-by",
    "project-by-names",
    "project-smart",
    "reduce",
    "sample",
    "sample-distinct",
    "scan",
    "search",
    "serialize",
    "top-hitters",
    "top-nested",
];

/// Statements, with the word that follows.
const STATEMENTS: &[(&str, &str)] = &[("alias", "database"), ("declare", "pattern"), ("restrict", "access")];

/// Words that begin an expression with a syntax of its own wherever they stand.
const SOURCES: &[&str] = &["external_data", "externaldata", "find", "inline_external_table", "search"];

/// Words that do so only with a parenthesis behind them.
const CALLS: &[&str] = &["totable", "typeof"];

impl Parser<'_> {
    /// Refuses a statement that is not supported.
    pub(super) fn check_supported_statement(&mut self) -> Result<()> {
        let first = self.peek()?;
        let second = self.ahead(1);
        let known = STATEMENTS
            .iter()
            .find(|(statement, next)| first.is(statement) && second.is_some_and(|token| token.is(next)));
        match known {
            Some((statement, next)) => {
                self.unsupported(first.span.start, format!("the statement '{statement} {next}' is not supported"))
            }
            None => Ok(()),
        }
    }

    /// Refuses a word that begins an expression which is not supported; `called` says that a parenthesis follows.
    pub(super) fn check_supported_word(&self, token: Token<'_>, called: bool) -> Result<()> {
        if SOURCES.contains(&token.text) || (called && CALLS.contains(&token.text)) {
            return self.unsupported(token.span.start, format!("'{}' is not supported", token.text));
        }
        Ok(())
    }
}
