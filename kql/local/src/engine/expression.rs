//! Scalar expressions: from the syntax tree to bound DataFusion expressions. Blocking (a `toscalar` runs its query here); called by every tabular operator.

use std::cell::RefCell;

use datafusion::logical_expr::{Expr as PlanExpr, Operator as PlanOperator, in_list};
use kql::{
    syntax::ast::{Argument, BinaryOp, Expr, ExprKind, Ident, InOp, Span},
    types::ScalarType,
};

use super::{
    functions::{
        self,
        conversion::{convert, to_string},
        dynamic,
    },
    json::Step,
    operators::{self, as_text, comparable, condition, or_else},
    planner::{Planner, located},
    relation::{BoundColumn, Relation, by_id},
    scalar::Scalar,
    scope::{Binding, Scope},
    summarize::Aggregates,
    text_match,
};
use crate::error::KustoError;

/// What a scalar expression may name.
#[derive(Clone, Copy)]
pub(crate) struct Binder<'a> {
    pub(crate) planner: &'a Planner,
    pub(crate) scope: &'a Scope,
    /// The columns; `None` where there is no row.
    pub(crate) row: Option<&'a Relation>,
    /// Where aggregates are collected; `None` where they are not allowed.
    pub(crate) aggregates: Option<&'a RefCell<Aggregates>>,
}

impl<'a> Binder<'a> {
    pub(crate) const fn new(planner: &'a Planner, scope: &'a Scope, row: Option<&'a Relation>) -> Self {
        Self { planner, scope, row, aggregates: None }
    }

    /// An expression of any type.
    pub(crate) fn bind(&self, expr: &Expr) -> Result<Scalar, KustoError> {
        self.planner.deeper(|| self.bind_kind(expr)).map_err(|error| self.located(expr.span, error))
    }

    /// An expression of type bool.
    pub(crate) fn bind_condition(&self, expr: &Expr, place: &str) -> Result<PlanExpr, KustoError> {
        let bound = self.bind(expr)?;
        condition(&bound, place).map_err(|error| self.located(expr.span, error))
    }

    /// An expression without columns, as a literal of a type.
    pub(crate) fn bind_constant(
        &self,
        expr: &Expr,
        scalar_type: ScalarType,
        place: &str,
    ) -> Result<Scalar, KustoError> {
        let bound = self.bind(expr)?;
        self.planner.constant(&bound, scalar_type, place).map_err(|error| self.located(expr.span, error))
    }

    pub(crate) fn located(&self, span: Span, error: KustoError) -> KustoError {
        located(self.scope, span, error)
    }

    fn bind_kind(&self, expr: &Expr) -> Result<Scalar, KustoError> {
        match &expr.kind {
            ExprKind::Literal(literal) => Ok(Scalar::from_literal(literal)),
            ExprKind::Name(name) => self.name(name),
            ExprKind::Star => Err(KustoError::syntax("'*' is not expected here")),
            ExprKind::TypeOf(_) => Err(KustoError::syntax("typeof() is the last argument of extract() in this server")),
            ExprKind::Member { .. } | ExprKind::Index { .. } => self.path(expr),
            ExprKind::Call { name, arguments } => self.call(name, arguments, expr.span),
            ExprKind::MemberCall { name, .. } => Err(KustoError::unsupported(format!(
                "A call of '{}' on another database is tabular in this server; it cannot stand for a scalar",
                name.name
            ))),
            ExprKind::Unary { op, operand } => operators::unary(*op, &self.bind(operand)?),
            ExprKind::Binary { op: op @ (BinaryOp::And | BinaryOp::Or), .. } => self.logical(expr, *op),
            ExprKind::Binary { op, left, right } => operators::binary(*op, &self.bind(left)?, &self.folded(right)?),
            ExprKind::In { op, target, list } => self.in_list(*op, target, list),
            ExprKind::Between { negated, target, low, high } => {
                let (target, low, high) = (self.bind(target)?, self.folded(low)?, self.folded(high)?);
                let inside = operators::between(&target, &low, &high)?;
                Ok(if *negated { Scalar::new(PlanExpr::Not(Box::new(inside.expr)), ScalarType::Bool) } else { inside })
            }
            ExprKind::Pipeline { .. } | ExprKind::Source(_) => Err(KustoError::semantic(
                "SEM0100",
                "A tabular expression cannot stand for a scalar; toscalar() makes a scalar of its first cell",
            )),
        }
    }

    /// A bound operand, a literal if it is constant: text operators prepare their right side once.
    fn folded(&self, expr: &Expr) -> Result<Scalar, KustoError> {
        let bound = self.bind(expr)?;
        self.planner.fold(bound)
    }

    fn name(&self, name: &str) -> Result<Scalar, KustoError> {
        if let Some(column) = self.row.and_then(|row| row.column(name)) {
            if self.aggregates.is_some() {
                return Err(KustoError::semantic(
                    "SEM0139",
                    format!("'{name}' is a column; in 'summarize' a column stands inside an aggregate or after 'by'"),
                ));
            }
            return Ok(column.scalar());
        }
        match self.scope.lookup(name) {
            Some(Binding::Scalar(scalar)) => Ok(scalar.clone()),
            Some(_) => Err(KustoError::semantic(
                "SEM0100",
                format!(
                    "'{name}' is tabular and cannot stand for a scalar; toscalar() makes a scalar of its first cell"
                ),
            )),
            None => Err(KustoError::semantic("SEM0100", format!("Failed to resolve scalar expression named '{name}'"))),
        }
    }

    /// `and` and `or`: a chain of hundreds becomes a balanced tree, because DataFusion recurses over expressions.
    fn logical(&self, expr: &Expr, op: BinaryOp) -> Result<Scalar, KustoError> {
        let mut operands = Vec::new();
        let mut pending = vec![expr];
        while let Some(next) = pending.pop() {
            match &next.kind {
                ExprKind::Binary { op: inner, left, right } if *inner == op => {
                    pending.push(right);
                    pending.push(left);
                }
                _ => operands.push(next),
            }
        }
        let place = format!("the operator '{}'", operators::symbol(op));
        let mut bound =
            operands.into_iter().map(|operand| self.bind_condition(operand, &place)).collect::<Result<Vec<_>, _>>()?;
        let sql = if op == BinaryOp::And { PlanOperator::And } else { PlanOperator::Or };
        while bound.len() > 1 {
            let mut halved = Vec::with_capacity(bound.len().div_ceil(2));
            let mut operands = bound.into_iter();
            while let Some(left) = operands.next() {
                halved.push(match operands.next() {
                    Some(right) => datafusion::logical_expr::binary_expr(left, sql, right),
                    None => left,
                });
            }
            bound = halved;
        }
        let expr = bound.pop().ok_or_else(|| KustoError::internal("A logical operator has no operands."))?;
        Ok(Scalar::new(expr, ScalarType::Bool))
    }

    /// A path into a dynamic value, all its constant steps in one go; or a scalar of a `macro-expand` scope.
    fn path(&self, expr: &Expr) -> Result<Scalar, KustoError> {
        let mut steps = Vec::new();
        let mut target = expr;
        loop {
            match &target.kind {
                ExprKind::Member { target: inner, member } => {
                    if let ExprKind::Name(scope_name) = &inner.kind
                        && self.row.is_none_or(|row| row.column(scope_name).is_none())
                        && let Some(Binding::Entity(entity)) = self.scope.lookup(scope_name)
                    {
                        let scalar = self.entity_scalar(scope_name, entity, member)?;
                        return dynamic::follow(self, &scalar, steps);
                    }
                    steps.insert(0, Step::Member(member.name.clone()));
                    target = inner;
                }
                ExprKind::Index { target: inner, index } => {
                    let index = self.folded(index)?;
                    if let Some(step) = dynamic::constant_step(&index) {
                        steps.insert(0, step);
                        target = inner;
                        continue;
                    }
                    let base = dynamic::index(&self.bind(inner)?, &index)?;
                    return dynamic::follow(self, &base, steps);
                }
                _ => return dynamic::follow(self, &self.bind(target)?, steps),
            }
        }
    }

    fn entity_scalar(
        &self,
        scope_name: &str,
        entity: &super::scope::Target,
        member: &Ident,
    ) -> Result<Scalar, KustoError> {
        match member.name.as_str() {
            "$current_cluster_endpoint" => Ok(Scalar::string(
                entity.cluster.clone().unwrap_or_else(|| self.planner.context.catalog.own_endpoint().to_owned()),
            )),
            "$current_database" => Ok(Scalar::string(&*entity.database)),
            other => Err(KustoError::semantic(
                "SEM0100",
                format!(
                    "'{scope_name}.{other}' is not a scalar: a scope has $current_cluster_endpoint and $current_database"
                ),
            )),
        }
    }

    fn in_list(&self, op: InOp, target: &Expr, list: &[Expr]) -> Result<Scalar, KustoError> {
        let target = self.bind(target)?;
        let values = self.list_values(list)?;
        if matches!(op, InOp::HasAny | InOp::HasAll) {
            let target = as_text(&target, "the operators 'has_any' and 'has_all'")?;
            let mut terms = Vec::with_capacity(values.len());
            for value in values {
                let text = self.planner.constant(&to_string(&value), ScalarType::String, "has_any, has_all")?;
                terms.push(text.constant_text().unwrap_or_default().to_owned());
            }
            return text_match::has_many(&target, &terms, op == InOp::HasAll);
        }
        let negated = matches!(op, InOp::NotIn | InOp::NotInTilde);
        if values.is_empty() {
            return Ok(Scalar::boolean(negated));
        }
        let (mut subject, mut choices) = common_type(target, values)?;
        if matches!(op, InOp::InTilde | InOp::NotInTilde) {
            subject = text_match::lower(&as_text(&subject, "the operator 'in~'")?);
            for choice in &mut choices {
                *choice = self.planner.fold(text_match::lower(&as_text(choice, "the operator 'in~'")?))?;
            }
        }
        let nullable = subject.scalar_type != ScalarType::String;
        let choices: Vec<PlanExpr> =
            choices.into_iter().filter(|choice| !choice.is_null_literal()).map(|choice| choice.expr).collect();
        if choices.is_empty() {
            return Ok(Scalar::boolean(negated));
        }
        let expr = in_list(subject.expr, choices, negated);
        Ok(Scalar::new(if nullable { or_else(expr, negated) } else { expr }, ScalarType::Bool))
    }

    /// The values on the right of `in`: as listed, or the elements of a dynamic array, or the first column of a table.
    fn list_values(&self, list: &[Expr]) -> Result<Vec<Scalar>, KustoError> {
        let mut values = Vec::with_capacity(list.len());
        for item in list {
            let names_column =
                matches!(&item.kind, ExprKind::Name(name) if self.row.is_some_and(|row| row.column(name).is_some()));
            if !names_column && self.planner.is_tabular(item, self.scope) {
                if list.len() > 1 {
                    let error = KustoError::semantic(
                        "SEM0100",
                        "A table on the right of 'in' stands alone; beside other values it cannot stand for a scalar",
                    );
                    return Err(self.located(item.span, error));
                }
                values.extend(self.planner.first_column(item, self.scope)?);
                continue;
            }
            let bound = self.folded(item)?;
            match dynamic::constant_elements(&bound) {
                Some(elements) => values.extend(elements),
                None if bound.scalar_type == ScalarType::Dynamic && bound.value().is_none() => {
                    let error = KustoError::unsupported(
                        "A dynamic value of each row on the right of 'in' is not supported; set_has_element() asks whether an array holds a value",
                    );
                    return Err(self.located(item.span, error));
                }
                None => values.push(bound),
            }
        }
        Ok(values)
    }

    fn call(&self, name: &Ident, arguments: &[Argument], span: Span) -> Result<Scalar, KustoError> {
        match self.scope.lookup(&name.name) {
            Some(Binding::Function(literal, scope)) => {
                let (literal, scope) = (literal.clone(), scope.clone());
                let scope = self.planner.bind_parameters(&literal, arguments, Some(self), self.scope, &scope)?;
                return self.planner.scalar_body(&literal.body, scope);
            }
            Some(_) if !functions::is_known(&name.name) => {
                return Err(KustoError::semantic("SEM0100", format!("'{}' is not a function", name.name)));
            }
            _ => {}
        }
        match name.name.as_str() {
            "toscalar" => return self.first_of(arguments),
            "ingestion_time" => {
                let id = self.row.and_then(|row| row.ingestion_time.as_deref());
                return Ok(id.map_or_else(
                    || Scalar::null(ScalarType::DateTime),
                    |id| Scalar::new(by_id(id), ScalarType::DateTime),
                ));
            }
            "column_ifexists" | "columnifexists" => return self.column_if_exists(arguments),
            "materialize" | "table" | "database" | "cluster" => {
                return Err(KustoError::semantic(
                    "SEM0100",
                    format!("{}() is tabular and cannot stand for a scalar", name.name),
                ));
            }
            _ => {}
        }
        if let Some(aggregates) = self.aggregates
            && super::summarize::is_aggregate(&name.name)
        {
            return self.aggregate(name, arguments, aggregates);
        }
        if !functions::is_known(&name.name) {
            return self.stored_scalar(name, arguments);
        }
        if let Some(argument) = arguments.iter().find(|argument| argument.name.is_some()) {
            let written = argument.name.as_ref().map_or("", |name| &name.name);
            return Err(KustoError::syntax(format!("{}() has no named argument '{written}'", name.name)));
        }
        if let ("extract", [pattern, group, text, last]) = (name.name.as_str(), arguments)
            && let ExprKind::TypeOf(scalar_type) = last.value.kind
        {
            let captured = self.call(name, &[pattern.clone(), group.clone(), text.clone()], span)?;
            return Ok(convert(&captured, scalar_type));
        }
        let bound = match name.name.as_str() {
            function @ ("estimate_data_size" | "pack_array") => self.columns_or_values(function, arguments)?,
            _ => arguments.iter().map(|argument| self.folded(&argument.value)).collect::<Result<Vec<_>, _>>()?,
        };
        functions::call(self.planner, &name.name, bound).map_err(|error| self.located(span, error))
    }

    /// The arguments of a function to which `*` means every column; `estimate_data_size()` takes nothing but columns.
    fn columns_or_values(&self, function: &str, arguments: &[Argument]) -> Result<Vec<Scalar>, KustoError> {
        let mut bound = Vec::with_capacity(arguments.len());
        for Argument { value, .. } in arguments {
            let column = match (&value.kind, self.row) {
                (ExprKind::Star, Some(row)) => {
                    bound.extend(row.columns.iter().map(BoundColumn::scalar));
                    continue;
                }
                (ExprKind::Name(name), Some(row)) => row.column(name),
                _ => None,
            };
            if column.is_none() && function == "estimate_data_size" {
                let error = KustoError::semantic("SEM0025", "estimate_data_size() takes columns, or * for all of them");
                return Err(self.located(value.span, error));
            }
            bound.push(self.folded(value)?);
        }
        Ok(bound)
    }

    fn stored_scalar(&self, name: &Ident, arguments: &[Argument]) -> Result<Scalar, KustoError> {
        let database = &self.scope.place.database;
        let stored = self.planner.context.catalog.database(database).and_then(|database| database.function(&name.name));
        let Some(function) = stored else {
            return Err(functions::unknown(&name.name));
        };
        let scope = self.planner.function_scope(self.scope, database, &function)?;
        let scope = self.planner.bind_parameters(&function.literal, arguments, Some(self), self.scope, &scope)?;
        self.planner.scalar_body(&function.literal.body, scope)
    }

    fn first_of(&self, arguments: &[Argument]) -> Result<Scalar, KustoError> {
        let [argument] = arguments else {
            return Err(KustoError::semantic("SEM0219", "toscalar() takes exactly one argument"));
        };
        if !self.planner.is_tabular(&argument.value, self.scope) {
            return self.bind(&argument.value);
        }
        self.planner.first_cell(&argument.value, self.scope)
    }

    fn column_if_exists(&self, arguments: &[Argument]) -> Result<Scalar, KustoError> {
        let [name, otherwise] = arguments else {
            return Err(KustoError::semantic("SEM0219", "column_ifexists() takes exactly two arguments"));
        };
        let name = self.bind_constant(&name.value, ScalarType::String, "column_ifexists()")?;
        let column = name.constant_text().and_then(|name| self.row.and_then(|row| row.column(name)));
        match column {
            Some(column) => Ok(column.scalar()),
            None => self.bind(&otherwise.value),
        }
    }
}

/// The subject and the choices of `in`, as one type.
fn common_type(target: Scalar, values: Vec<Scalar>) -> Result<(Scalar, Vec<Scalar>), KustoError> {
    let mut subject = target;
    let mut choices = Vec::with_capacity(values.len());
    // A dynamic subject takes the type of the values; a number takes the widest type among them.
    for value in &values {
        let left = Scalar::new(subject.expr.clone(), subject.scalar_type);
        if value.scalar_type == ScalarType::Dynamic && subject.scalar_type == ScalarType::Dynamic {
            continue;
        }
        subject = match (subject.scalar_type, value.scalar_type) {
            (ScalarType::Dynamic, ScalarType::Int) => convert(&left, ScalarType::Long),
            (_, ScalarType::Dynamic) => left,
            _ => comparable("in", &left, value)?.0,
        };
    }
    if subject.scalar_type == ScalarType::Dynamic {
        return Ok((to_string(&subject), values.iter().map(to_string).collect()));
    }
    for value in values {
        choices.push(convert(&value, subject.scalar_type));
    }
    Ok((subject, choices))
}
