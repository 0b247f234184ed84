//! Makes the body of a leg into statements that another server can run by itself. Blocking only where a leg needs a small local table; called by
//! [`super::legs`].
//!
//! The scope becomes `database('d')` and its two scalars literals; `let` statements from outside that the leg uses travel in front of it; local tables travel as
//! `datatable` if they are small. What cannot travel is refused by name.

use std::collections::BTreeSet;

use kql::{
    syntax::ast::{
        Argument, BinaryOp, ColumnDeclaration, Expr, ExprKind, FunctionLiteral, Ident, LetValue, Literal, Source, Span,
        Statement,
    },
    types::ScalarType,
};

use super::rewrite::{self, Place};
use crate::{
    engine::{
        functions,
        planner::Planner,
        scalar::Scalar,
        scope::{Binding, Scope, Target},
    },
    error::KustoError,
    rows::Rows,
};

/// More rows than this are not shipped inside a text.
const MAX_SHIPPED_ROWS: usize = 1_000;

pub(super) fn ident(name: &str) -> Ident {
    Ident { name: name.to_owned(), span: Span::default() }
}

pub(super) fn plain(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

pub(super) fn literal(literal: Literal) -> Expr {
    plain(ExprKind::Literal(literal))
}

/// `database('d')`
fn database_call(database: &str) -> Expr {
    let argument = Argument { name: None, value: literal(Literal::String(database.to_owned())) };
    plain(ExprKind::Call { name: ident("database"), arguments: vec![argument] })
}

/// `database('d').name`
pub(super) fn member_of(database: &str, name: &str) -> Expr {
    plain(ExprKind::Member { target: Box::new(database_call(database)), member: ident(name) })
}

/// A leg's body on its way to a target.
pub(super) struct Shipment<'a> {
    pub(super) planner: &'a Planner,
    /// The name that stands for the target in the body; `None` for a bare remote table.
    pub(super) scope_name: Option<&'a str>,
    pub(super) target: &'a Target,
    pub(super) scope: &'a Scope,
    /// `now()` becomes this literal; `None` leaves it, in a text whose columns alone matter.
    pub(super) now: Option<i64>,
}

/// What a shipment needs in front of it.
#[derive(Default)]
struct Luggage {
    statements: Vec<Statement>,
    names: BTreeSet<String>,
}

impl Shipment<'_> {
    /// The statements that the target runs.
    pub(super) fn statements(&self, body: &[Statement]) -> Result<Vec<Statement>, KustoError> {
        let mut luggage = Luggage::default();
        let shipped = self.rewritten(body, self.scope, &BTreeSet::new(), &mut luggage)?;
        luggage.statements.extend(shipped);
        Ok(luggage.statements)
    }

    fn rewritten(
        &self,
        body: &[Statement],
        scope: &Scope,
        parameters: &BTreeSet<String>,
        luggage: &mut Luggage,
    ) -> Result<Vec<Statement>, KustoError> {
        let mut own = parameters.clone();
        for statement in body {
            if let Statement::Let { name, .. } = statement {
                own.insert(name.name.clone());
            }
        }
        rewrite::statements(body, &mut |expr, place| self.decide(expr, place, scope, &own, luggage))
    }

    fn decide(
        &self,
        expr: &Expr,
        place: Place,
        scope: &Scope,
        own: &BTreeSet<String>,
        luggage: &mut Luggage,
    ) -> Result<Option<Expr>, KustoError> {
        let is_scope = |target: &Expr| matches!(&target.kind, ExprKind::Name(name) if Some(name.as_str()) == self.scope_name && !own.contains(name));
        match &expr.kind {
            ExprKind::Member { target, member } if is_scope(target) => Ok(Some(match member.name.as_str() {
                "$current_cluster_endpoint" => {
                    literal(Literal::String(self.target.cluster.clone().unwrap_or_default()))
                }
                "$current_database" => literal(Literal::String(self.target.database.clone())),
                name => member_of(&self.target.database, name),
            })),
            ExprKind::MemberCall { target, name, arguments } if is_scope(target) => {
                let arguments = arguments
                    .iter()
                    .map(|argument| {
                        let value = rewrite::expr(&argument.value, Place::Value, &mut |expr, place| {
                            self.decide(expr, place, scope, own, luggage)
                        })?;
                        Ok(Argument { name: argument.name.clone(), value })
                    })
                    .collect::<Result<Vec<_>, KustoError>>()?;
                let target = Box::new(database_call(&self.target.database));
                Ok(Some(plain(ExprKind::MemberCall { target, name: name.clone(), arguments })))
            }
            // Where a scalar stands, a column of the scope's name hides it.
            ExprKind::Name(name)
                if place == Place::Table && Some(name.as_str()) == self.scope_name && !own.contains(name) =>
            {
                Err(KustoError::semantic(
                    "SEM0608",
                    format!("'{name}' stands for an entity; name a table or function in it: {name}.Table"),
                ))
            }
            ExprKind::Name(name) if !own.contains(name) => self.name(name, place, scope, luggage),
            ExprKind::Call { name, arguments } if !own.contains(&name.name) => {
                self.call(expr, name, arguments, scope, own, luggage)
            }
            ExprKind::Source(Source::MacroExpand(_)) => Err(nested()),
            _ => Ok(None),
        }
    }

    fn name(&self, name: &str, place: Place, scope: &Scope, luggage: &mut Luggage) -> Result<Option<Expr>, KustoError> {
        match scope.lookup(name) {
            Some(Binding::Scalar(value)) => {
                // A `let` in front, not a literal in place: a column of that name must go on hiding it.
                self.carry(name, LetValue::Expression(self.scalar_literal(name, value)?), luggage);
                Ok(None)
            }
            Some(Binding::Function(literal, closure)) => {
                self.function(name, literal, closure, luggage)?;
                Ok(None)
            }
            Some(Binding::Table(_) | Binding::Relation(_)) => self.table(name, scope, luggage).map(|()| None),
            Some(Binding::Entity(_) | Binding::Group(_)) => Err(cannot_travel(name)),
            None if place == Place::Table => self.table(name, scope, luggage).map(|()| None),
            None => Ok(None),
        }
    }

    fn scalar_literal(&self, name: &str, value: &Scalar) -> Result<Expr, KustoError> {
        value.to_literal().map(literal).ok_or_else(|| cannot_travel(name))
    }

    fn carry(&self, name: &str, value: LetValue, luggage: &mut Luggage) {
        if luggage.names.insert(name.to_owned()) {
            luggage.statements.push(Statement::Let { name: ident(name), value });
        }
    }

    fn function(
        &self,
        name: &str,
        literal: &FunctionLiteral,
        closure: &Scope,
        luggage: &mut Luggage,
    ) -> Result<(), KustoError> {
        if luggage.names.contains(name) {
            return Ok(());
        }
        let parameters = literal.parameters.iter().map(|parameter| parameter.name.name.clone()).collect();
        let body = self.planner.deeper(|| self.rewritten(&literal.body, closure, &parameters, luggage))?;
        let shipped = FunctionLiteral { view: literal.view, parameters: literal.parameters.clone(), body };
        self.carry(name, LetValue::Function(shipped), luggage);
        Ok(())
    }

    /// A local table, as a `datatable` in front of the leg.
    fn table(&self, name: &str, scope: &Scope, luggage: &mut Luggage) -> Result<(), KustoError> {
        if luggage.names.contains(name) {
            return Ok(());
        }
        let relation = self.planner.relation(&plain(ExprKind::Name(name.to_owned())), scope)?;
        let rows = self.planner.execute(crate::engine::pipeline::limit(relation, MAX_SHIPPED_ROWS + 1)?)?;
        let table = data_table(&rows).ok_or_else(|| {
            KustoError::unsupported(format!(
                "The leg on {} uses the local table '{name}', which has more than {MAX_SHIPPED_ROWS} rows and is not sent there; join it after macro-expand",
                self.target.cluster.as_deref().unwrap_or_default()
            ))
        })?;
        self.carry(name, LetValue::Expression(table), luggage);
        Ok(())
    }

    fn call(
        &self,
        expr: &Expr,
        name: &Ident,
        arguments: &[Argument],
        scope: &Scope,
        own: &BTreeSet<String>,
        luggage: &mut Luggage,
    ) -> Result<Option<Expr>, KustoError> {
        if let Some(Binding::Function(literal, closure)) = scope.lookup(&name.name) {
            self.function(&name.name, literal, closure, luggage)?;
            return Ok(None);
        }
        let mut argument = |index: usize| -> Result<Option<Expr>, KustoError> {
            let Some(argument) = arguments.get(index) else { return Ok(None) };
            rewrite::expr(&argument.value, Place::Value, &mut |expr, place| {
                self.decide(expr, place, scope, own, luggage)
            })
            .map(Some)
        };
        match (name.name.as_str(), self.now) {
            ("now" | "ago", Some(now)) => {
                let now = literal(Literal::DateTime(Some(now)));
                let op = if name.name == "now" { BinaryOp::Add } else { BinaryOp::Subtract };
                Ok(Some(match argument(0)? {
                    Some(distance) => plain(ExprKind::Binary { op, left: Box::new(now), right: Box::new(distance) }),
                    None => now,
                }))
            }
            ("current_cluster_endpoint", _) => {
                Ok(Some(literal(Literal::String(self.planner.context.catalog.own_endpoint().to_owned()))))
            }
            ("current_database", _) => Ok(Some(literal(Literal::String(self.planner.context.database.clone())))),
            ("database" | "cluster", _) => Err(KustoError::unsupported(format!(
                "{}() inside a macro-expand that reaches other servers is not supported; only the scope's tables travel",
                name.name
            ))),
            ("table", _) => Err(KustoError::unsupported(
                "table() of a local table inside a macro-expand that reaches other servers is not supported",
            )),
            (function, _) if functions::is_known(function) || crate::engine::summarize::is_aggregate(function) => {
                Ok(None)
            }
            _ => {
                if !self.planner.is_tabular(expr, scope) {
                    return Err(KustoError::unsupported(format!(
                        "The function '{}' is not built in and cannot be sent to another server inside a macro-expand",
                        name.name
                    )));
                }
                let relation = self.planner.relation(expr, scope)?;
                let rows = self.planner.execute(crate::engine::pipeline::limit(relation, MAX_SHIPPED_ROWS + 1)?)?;
                data_table(&rows).map(Some).ok_or_else(|| cannot_travel(&name.name))
            }
        }
    }
}

pub(super) fn nested() -> KustoError {
    KustoError::semantic("SEM0611", "macro-expand inside a macro-expand is not allowed")
}

fn cannot_travel(name: &str) -> KustoError {
    KustoError::unsupported(format!("'{name}' cannot be sent to another server inside a macro-expand"))
}

/// The rows as a `datatable`; `None` if there are too many.
fn data_table(rows: &Rows) -> Option<Expr> {
    if rows.len() > MAX_SHIPPED_ROWS {
        return None;
    }
    let columns: Vec<ColumnDeclaration> = rows
        .schema
        .columns()
        .iter()
        .map(|column| ColumnDeclaration { name: ident(&column.name), scalar_type: column.scalar_type })
        .collect();
    let mut values = Vec::with_capacity(rows.len() * columns.len());
    for batch in &rows.batches {
        for row in 0..batch.num_rows() {
            for (array, column) in batch.columns().iter().zip(&columns) {
                let value = datafusion::common::ScalarValue::try_from_array(array, row).ok()?;
                let scalar_type: ScalarType = column.scalar_type;
                let scalar = Scalar::new(datafusion::logical_expr::Expr::Literal(value, None), scalar_type);
                values.push(literal(scalar.to_literal()?));
            }
        }
    }
    Some(plain(ExprKind::Source(Source::DataTable { columns, values })))
}
