//! Statements: `let`, `set`, `declare query_parameters`, and the bodies of functions. Blocking; the entry is [`Planner::run`].

use std::{collections::BTreeSet, sync::Arc};

use kql::{
    syntax::{
        ast::{
            Argument, ExprKind, FunctionLiteral, Ident, LetValue, Literal, Parameter, ParameterType, Query, Span,
            Statement,
        },
        parser,
    },
    types::ScalarType,
};

use super::{
    expression::Binder,
    functions::conversion::convert,
    operators::wider,
    planner::{Planner, located},
    scalar::Scalar,
    scope::{Binding, Scope, TableBinding},
    tabular::Planned,
};
use crate::{catalog::Entity, error::KustoError, rows::Rows, wire::options};

impl Planner {
    /// A whole query: one table for every tabular statement.
    pub(crate) fn run(&self, query: &Query, text: &str) -> Result<Vec<Rows>, KustoError> {
        let mut scope = self.root(Some(text));
        declared_once(&query.statements, &[]).map_err(|(span, error)| located(&scope, span, error))?;
        let mut results = Vec::new();
        for statement in &query.statements {
            match statement {
                Statement::Expression(expr) => {
                    let relation = self.relation(expr, &scope)?;
                    let mut rows = self.execute(relation)?;
                    rows.warnings.extend(self.warnings.take());
                    results.push(rows);
                }
                other => scope = self.statement(other, scope)?,
            }
        }
        if results.is_empty() {
            return Err(KustoError::semantic("SEM0006", "No tabular expression statement found"));
        }
        Ok(results)
    }

    /// The tabular value of a function body or of a `macro-expand`'s.
    pub(crate) fn body(&self, body: &[Statement], scope: Scope) -> Result<Planned, KustoError> {
        let (expr, scope) = self.prologue(body, scope)?;
        self.tabular(expr, &scope)
    }

    /// The scalar value of a function body.
    pub(crate) fn scalar_body(&self, body: &[Statement], scope: Scope) -> Result<Scalar, KustoError> {
        let (expr, scope) = self.prologue(body, scope)?;
        Binder::new(self, &scope, None).bind(expr)
    }

    fn prologue<'a>(
        &self,
        body: &'a [Statement],
        mut scope: Scope,
    ) -> Result<(&'a kql::syntax::ast::Expr, Scope), KustoError> {
        let Some((Statement::Expression(last), before)) = body.split_last() else {
            return Err(KustoError::semantic("SEM0006", "The body does not end with an expression"));
        };
        for statement in before {
            if matches!(statement, Statement::Expression(_)) {
                return Err(KustoError::semantic("SEM0006", "Only the last statement of a body is an expression"));
            }
            scope = self.statement(statement, scope)?;
        }
        Ok((last, scope))
    }

    /// A statement that gives no rows.
    fn statement(&self, statement: &Statement, scope: Scope) -> Result<Scope, KustoError> {
        match statement {
            Statement::Let { name, value } => self.bind_let(name, value, &scope),
            Statement::Set { option, value } => {
                set_option(option, value.as_ref()).map_err(|error| located(&scope, option.span, error))?;
                Ok(scope)
            }
            Statement::QueryParameters(parameters) => self.query_parameters(parameters, scope),
            Statement::Expression(_) => Ok(scope),
        }
    }

    fn bind_let(&self, name: &Ident, value: &LetValue, scope: &Scope) -> Result<Scope, KustoError> {
        let binding = match value {
            LetValue::Function(literal) => Binding::Function(Arc::new(literal.clone()), scope.clone()),
            LetValue::EntityGroup(entities) => Binding::Group(Arc::new(self.entities(entities, scope)?)),
            // Names that mean nothing are taken as tables: their error then says what was looked for.
            LetValue::Expression(expr)
                if self.is_tabular(expr, scope)
                    || matches!(&expr.kind, ExprKind::Name(name) if scope.lookup(name).is_none()) =>
            {
                if let ExprKind::Name(group) = &expr.kind
                    && let Some(Binding::Group(entities)) = scope.lookup(group)
                {
                    Binding::Group(Arc::clone(entities))
                } else {
                    Binding::Table(TableBinding {
                        expr: Arc::new(expr.clone()),
                        scope: scope.clone(),
                        columns: Arc::default(),
                    })
                }
            }
            LetValue::Expression(expr) => {
                let bound = Binder::new(self, scope, None).bind(expr)?;
                Binding::Scalar(self.fold(bound)?)
            }
        };
        Ok(scope.with(&name.name, binding))
    }

    /// The entities of a group, each here or on a loopback server; the same one twice is refused.
    pub(crate) fn entities(
        &self,
        entities: &[kql::syntax::ast::Expr],
        scope: &Scope,
    ) -> Result<Vec<Entity>, KustoError> {
        if entities.is_empty() {
            return Err(KustoError::syntax("An entity group holds at least one entity"));
        }
        let mut resolved = Vec::with_capacity(entities.len());
        for expr in entities {
            let target = self.entity_unchecked(expr, scope)?;
            resolved.push(Entity { cluster: target.cluster, database: target.database });
        }
        Ok(resolved)
    }

    fn query_parameters(&self, parameters: &[Parameter], mut scope: Scope) -> Result<Scope, KustoError> {
        for parameter in parameters {
            let ParameterType::Scalar(scalar_type) = &parameter.kind else {
                return Err(located(
                    &scope,
                    parameter.name.span,
                    KustoError::semantic("SEM0025", "A query parameter is a scalar"),
                ));
            };
            let name = &parameter.name.name;
            let value = match (self.context.parameters.get(name), &parameter.default) {
                (Some(text), _) => self.parameter_value(name, *scalar_type, text)?,
                (None, Some(default)) => {
                    self.constant(&Scalar::from_literal(default), *scalar_type, "declare query_parameters")?
                }
                (None, None) => {
                    return Err(located(
                        &scope,
                        parameter.name.span,
                        KustoError::semantic("SEM0104", format!("The query parameter '{name}' has no value")),
                    ));
                }
            };
            scope = scope.with(name, Binding::Scalar(value));
        }
        Ok(scope)
    }

    /// The value a client sends for a query parameter: a KQL literal; for a string, text that is no literal stands for itself.
    fn parameter_value(&self, name: &str, scalar_type: ScalarType, text: &str) -> Result<Scalar, KustoError> {
        let literal = parser::parse_expression(text).ok().and_then(|expr| {
            let bound = match &expr.kind {
                ExprKind::Literal(literal) => Scalar::from_literal(literal),
                ExprKind::Unary { .. } => Binder::new(self, &self.root(None), None).bind(&expr).ok()?,
                _ => return None,
            };
            (bound.scalar_type == scalar_type || wider(bound.scalar_type, scalar_type).is_some()).then_some(bound)
        });
        let value = match literal {
            Some(literal) => convert(&literal, scalar_type),
            None if scalar_type == ScalarType::String => return Ok(Scalar::string(text)),
            None => convert(&Scalar::string(text), scalar_type),
        };
        let value = self.fold(value)?;
        if value.is_null_literal() && !text.contains("null") {
            return Err(KustoError::bad_request(format!(
                "The value of the query parameter '{name}' is no literal of type {scalar_type}."
            )));
        }
        Ok(value)
    }

    /// Binds the parameters of a function to the arguments of a call. `binder` is the caller's where the call stands in a scalar expression, whose columns
    /// the arguments may name; elsewhere scalar arguments are constants.
    pub(crate) fn bind_parameters(
        &self,
        literal: &FunctionLiteral,
        arguments: &[Argument],
        binder: Option<&Binder<'_>>,
        caller: &Scope,
        inner: &Scope,
    ) -> Result<Scope, KustoError> {
        declared_once(&literal.body, &literal.parameters).map_err(|(span, error)| located(inner, span, error))?;
        let mut values: Vec<Option<&Argument>> = vec![None; literal.parameters.len()];
        for (position, argument) in arguments.iter().enumerate() {
            let index = match &argument.name {
                Some(name) => literal
                    .parameters
                    .iter()
                    .position(|parameter| parameter.name.name == name.name)
                    .ok_or_else(|| {
                        let error =
                            KustoError::semantic("SEM0219", format!("The function has no parameter '{}'", name.name));
                        located(caller, name.span, error)
                    })?,
                None => position,
            };
            match values.get_mut(index) {
                Some(slot @ None) => *slot = Some(argument),
                Some(Some(_)) => return Err(KustoError::semantic("SEM0219", "A parameter has two values")),
                None => {
                    return Err(KustoError::semantic(
                        "SEM0219",
                        format!(
                            "The function takes at most {} arguments, here it has {}",
                            literal.parameters.len(),
                            arguments.len()
                        ),
                    ));
                }
            }
        }
        let mut scope = inner.clone();
        for (parameter, value) in literal.parameters.iter().zip(values) {
            let binding = self.bind_parameter(parameter, value, binder, caller)?;
            scope = scope.with(&parameter.name.name, binding);
        }
        Ok(scope)
    }

    fn bind_parameter(
        &self,
        parameter: &Parameter,
        value: Option<&Argument>,
        binder: Option<&Binder<'_>>,
        caller: &Scope,
    ) -> Result<Binding, KustoError> {
        let name = &parameter.name.name;
        match (&parameter.kind, value) {
            (ParameterType::Scalar(scalar_type), Some(argument)) => {
                let bound = match binder {
                    Some(binder) => binder.bind(&argument.value)?,
                    None => Binder::new(self, caller, None).bind(&argument.value)?,
                };
                let fits = bound.scalar_type == *scalar_type
                    || bound.scalar_type == ScalarType::Dynamic
                    || *scalar_type == ScalarType::Dynamic
                    || wider(bound.scalar_type, *scalar_type).is_some();
                if !fits {
                    let error = KustoError::semantic(
                        "SEM0025",
                        format!(
                            "The parameter '{name}' is of type {scalar_type}, its value is of type {}",
                            bound.scalar_type
                        ),
                    );
                    return Err(located(caller, argument.value.span, error));
                }
                Ok(Binding::Scalar(self.fold(convert(&bound, *scalar_type))?))
            }
            (ParameterType::Scalar(scalar_type), None) => match &parameter.default {
                Some(default) => Ok(Binding::Scalar(self.fold(convert(&Scalar::from_literal(default), *scalar_type))?)),
                None => Err(KustoError::semantic("SEM0219", format!("The parameter '{name}' has no value"))),
            },
            (ParameterType::Table(columns), Some(argument)) => Ok(Binding::Table(TableBinding {
                expr: Arc::new(argument.value.clone()),
                scope: caller.clone(),
                columns: Arc::new(columns.clone()),
            })),
            (ParameterType::Table(_), None) => {
                Err(KustoError::semantic("SEM0219", format!("The table parameter '{name}' has no value")))
            }
        }
    }
}

/// A name is declared once in a query, in a function with its parameters, in a body.
pub(crate) fn declared_once(statements: &[Statement], parameters: &[Parameter]) -> Result<(), (Span, KustoError)> {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let queried = statements.iter().flat_map(|statement| match statement {
        Statement::QueryParameters(parameters) => parameters.as_slice(),
        _ => &[],
    });
    let names = parameters.iter().chain(queried).map(|parameter| &parameter.name);
    let lets = statements.iter().filter_map(|statement| match statement {
        Statement::Let { name, .. } => Some(name),
        _ => None,
    });
    for name in names.chain(lets) {
        if !seen.insert(&name.name) {
            let message = format!("A variable with the name '{}' has already been declared", name.name);
            return Err((name.span, KustoError::semantic("SEM0102", message)));
        }
    }
    Ok(())
}

/// Request properties that the server has taken from the text already ([`crate::wire::options`]) and those that change no row here. Others are refused: a query
/// that asks for something must get it or be told.
fn set_option(option: &Ident, value: Option<&Literal>) -> Result<(), KustoError> {
    const WITHOUT_EFFECT: &[&str] = &[
        "client_max_redirect_count",
        "deferpartialqueryfailures",
        "materialized_view_shuffle",
        "max_memory_consumption_per_query_per_node",
        "maxmemoryconsumptionperiterator",
        "query_datascope",
        "query_fanout_nodes_percent",
        "query_fanout_threads_percent",
        "query_results_cache_max_age",
        "query_results_cache_per_shard",
        "request_app_name",
        "request_description",
        "request_user",
        "results_progressive_enabled",
    ];
    let name = option.name.to_lowercase();
    if WITHOUT_EFFECT.contains(&name.as_str()) || options::EFFECTIVE.contains(&name.as_str()) {
        return Ok(());
    }
    let written = value.map(|value| format!("={value}")).unwrap_or_default();
    Err(KustoError::unsupported(format!("The option 'set {}{written}' is not supported by this server", option.name)))
}
