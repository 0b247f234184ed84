//! Tabular expressions: names, entities, functions, pipelines and sources to planned tables. Blocking; the entry is [`Planner::tabular`].

use std::sync::Arc;

use kql::{
    syntax::ast::{Argument, Expr, ExprKind, FunctionLiteral, Ident, LetValue, Source, Statement},
    types::ScalarType,
};

use super::{
    expression::Binder,
    federation::legs::Legs,
    functions,
    planner::{Planner, located},
    relation::Relation,
    scalar::Scalar,
    scope::{Binding, Scope, TableBinding, Target},
};
use crate::{
    catalog::StoredFunction,
    error::KustoError,
    rows::{Rows, Schema},
};

/// A planned table, or the legs of a federated one, which wait for the operators that follow.
pub(crate) enum Planned {
    Relation(Relation),
    Legs(Legs),
}

impl Planner {
    /// A tabular expression.
    pub(crate) fn tabular(&self, expr: &Expr, scope: &Scope) -> Result<Planned, KustoError> {
        self.deeper(|| self.tabular_kind(expr, scope)).map_err(|error| located(scope, expr.span, error))
    }

    /// A tabular expression whose rows are needed as one table.
    pub(crate) fn relation(&self, expr: &Expr, scope: &Scope) -> Result<Relation, KustoError> {
        let planned = self.tabular(expr, scope)?;
        self.resolve(planned)
    }

    /// The columns of a planned table.
    #[allow(clippy::unused_self)] // Beside the other questions one asks the planner.
    pub(crate) fn planned_schema(&self, planned: &Planned) -> Schema {
        match planned {
            Planned::Relation(relation) => relation.schema(),
            Planned::Legs(legs) => legs.schema(),
        }
    }

    fn tabular_kind(&self, expr: &Expr, scope: &Scope) -> Result<Planned, KustoError> {
        match &expr.kind {
            ExprKind::Name(name) => self.named_table(name, scope),
            ExprKind::Pipeline { source, operators } => {
                let source = self.tabular(source, scope)?;
                self.operators(source, operators, scope)
            }
            ExprKind::Source(source) => self.source(source, scope),
            ExprKind::Call { name, arguments } => self.table_call(name, arguments, scope),
            ExprKind::Member { target, member } => {
                let target = self.entity(target, scope)?;
                self.entity_member(&target, &member.name, None, scope)
            }
            ExprKind::MemberCall { target, name, arguments } => {
                let target = self.entity(target, scope)?;
                match name.name.as_str() {
                    "table" => {
                        let table = self.table_name(arguments, scope)?;
                        if target.cluster.is_some() {
                            return self.remote_member(&target, expr, scope);
                        }
                        self.scan(&target.database, &table).map(Planned::Relation)
                    }
                    "database" | "cluster" => Err(KustoError::semantic(
                        "SEM0608",
                        format!("database('{}') is not a table; name a table or function in it", target.database),
                    )),
                    function => self.entity_member(&target, function, Some((arguments, expr)), scope),
                }
            }
            _ => Err(KustoError::semantic("SEM0100", "A tabular expression is expected here, this one is scalar")),
        }
    }

    fn source(&self, source: &Source, scope: &Scope) -> Result<Planned, KustoError> {
        match source {
            Source::Print(columns) => self.print(columns, scope).map(Planned::Relation),
            Source::Range { column, from, to, step } => {
                self.range(column, from, to, step, scope).map(Planned::Relation)
            }
            Source::DataTable { columns, values } => self.data_table(columns, values, scope).map(Planned::Relation),
            Source::Union(clause) => self.union(None, clause, scope).map(Planned::Relation),
            Source::MacroExpand(expand) => self.macro_expand(expand, scope).map(Planned::Legs),
        }
    }

    /// An unqualified name: a `let`, a stored function without parameters, a table. A function hides a table of the same name.
    fn named_table(&self, name: &str, scope: &Scope) -> Result<Planned, KustoError> {
        match scope.lookup(name) {
            Some(Binding::Table(table)) => return self.bound_table(table),
            Some(Binding::Relation(relation)) => return self.refreshed(relation).map(Planned::Relation),
            Some(Binding::Function(literal, closure)) => {
                let (literal, closure) = (Arc::clone(literal), closure.clone());
                let inner = self.bind_parameters(&literal, &[], None, scope, &closure)?;
                return self.body(&literal.body, inner);
            }
            Some(Binding::Entity(_)) => {
                return Err(KustoError::semantic(
                    "SEM0608",
                    format!("'{name}' stands for an entity; name a table or function in it: {name}.Table"),
                ));
            }
            Some(Binding::Scalar(_) | Binding::Group(_)) => {
                return Err(KustoError::semantic(
                    "SEM0100",
                    format!(
                        "Failed to resolve table expression named '{name}': the name stands for something that is not tabular"
                    ),
                ));
            }
            None => {}
        }
        let database = scope.place.database.clone();
        self.local_member(&database, name, &[], scope)
    }

    /// A table or function of a database of this server.
    fn local_member(
        &self,
        database: &str,
        name: &str,
        arguments: &[Argument],
        scope: &Scope,
    ) -> Result<Planned, KustoError> {
        if let Some(function) = self.database(database)?.named_query(name) {
            return self.stored_call(database, &function, arguments, scope);
        }
        self.scan(database, name).map(Planned::Relation)
    }

    fn stored_call(
        &self,
        database: &str,
        function: &Arc<StoredFunction>,
        arguments: &[Argument],
        scope: &Scope,
    ) -> Result<Planned, KustoError> {
        let inner = self.function_scope(scope, database, function)?;
        let inner = self.bind_parameters(&function.literal, arguments, None, scope, &inner)?;
        self.body(&function.literal.body, inner)
    }

    fn bound_table(&self, table: &TableBinding) -> Result<Planned, KustoError> {
        let planned = match materialized(&table.expr) {
            Some(inner) => {
                let key = Arc::as_ptr(&table.expr).addr();
                let cached = self.materialized.borrow().get(&key).map(|(_, rows)| Arc::clone(rows));
                let rows = match cached {
                    Some(rows) => rows,
                    None => {
                        let relation = self.relation(inner, &table.scope)?;
                        let rows = Arc::new(self.execute(relation)?);
                        self.materialized.borrow_mut().insert(key, (Arc::clone(&table.expr), Arc::clone(&rows)));
                        rows
                    }
                };
                Planned::Relation(self.rows_relation(&rows)?)
            }
            None => self.tabular(&table.expr, &table.scope)?,
        };
        if table.columns.is_empty() {
            return Ok(planned);
        }
        // A table parameter shows the function the columns that it declares.
        let relation = self.resolve(planned)?;
        let mut names = Vec::with_capacity(table.columns.len());
        for declared in table.columns.iter() {
            match relation.column(&declared.name.name) {
                Some(column) if column.scalar_type == declared.scalar_type => names.push(column.name.clone()),
                _ => {
                    return Err(KustoError::semantic(
                        "SEM0219",
                        format!(
                            "The table argument has no column '{}' of type {}",
                            declared.name.name, declared.scalar_type
                        ),
                    ));
                }
            }
        }
        relation.select(&self.ids, &names).map(Planned::Relation)
    }

    fn table_call(&self, name: &Ident, arguments: &[Argument], scope: &Scope) -> Result<Planned, KustoError> {
        if let Some(Binding::Function(literal, closure)) = scope.lookup(&name.name) {
            let (literal, closure) = (Arc::clone(literal), closure.clone());
            let inner = self.bind_parameters(&literal, arguments, None, scope, &closure)?;
            return self.body(&literal.body, inner);
        }
        match name.name.as_str() {
            "materialize" => {
                let [argument] = arguments else {
                    return Err(KustoError::semantic("SEM0219", "materialize() takes exactly one argument"));
                };
                self.tabular(&argument.value, scope)
            }
            "table" => {
                let table = self.table_name(arguments, scope)?;
                if let Some(Binding::Table(bound)) = scope.lookup(&table) {
                    return self.bound_table(bound);
                }
                self.scan(&scope.place.database, &table).map(Planned::Relation)
            }
            "cluster" | "database" => Err(KustoError::semantic(
                "SEM0608",
                format!("{}() is not a table; name a table or function in it", name.name),
            )),
            _ => {
                let database = scope.place.database.clone();
                let function = self.database(&database)?.function(&name.name);
                let Some(function) = function else {
                    if functions::is_known(&name.name) {
                        return Err(KustoError::semantic(
                            "SEM0100",
                            format!("{}() is scalar; a tabular expression is expected here", name.name),
                        ));
                    }
                    return Err(functions::unknown_table(&name.name));
                };
                self.stored_call(&database, &function, arguments, scope)
            }
        }
    }

    fn table_name(&self, arguments: &[Argument], scope: &Scope) -> Result<String, KustoError> {
        let [name, ..] = arguments else {
            return Err(KustoError::semantic("SEM0219", "table() takes the table's name"));
        };
        self.text_argument(name, scope, "table()")
    }

    fn text_argument(&self, argument: &Argument, scope: &Scope, place: &str) -> Result<String, KustoError> {
        let text = Binder::new(self, scope, None).bind_constant(&argument.value, ScalarType::String, place)?;
        Ok(text.constant_text().unwrap_or_default().to_owned())
    }

    /// What stands before the dot: a `macro-expand` scope, `database('d')`, `cluster('c').database('d')`. A database of this server must be there.
    pub(crate) fn entity(&self, expr: &Expr, scope: &Scope) -> Result<Target, KustoError> {
        let target = self.entity_unchecked(expr, scope)?;
        if target.cluster.is_some() {
            return Ok(target);
        }
        let database = self.database(&target.database).map_err(|error| located(scope, expr.span, error))?;
        Ok(Target { cluster: None, database: database.name().to_owned() })
    }

    /// An entity whose database may be missing: `isfuzzy` decides later.
    pub(crate) fn entity_unchecked(&self, expr: &Expr, scope: &Scope) -> Result<Target, KustoError> {
        let one = |arguments: &[Argument], function: &str| match arguments {
            [argument] => self.text_argument(argument, scope, function),
            _ => Err(KustoError::semantic("SEM0219", format!("{function} takes exactly one argument"))),
        };
        match &expr.kind {
            ExprKind::Name(name) => match scope.lookup(name) {
                Some(Binding::Entity(target)) => Ok(target.clone()),
                _ => Err(KustoError::semantic("SEM0100", format!("Failed to resolve entity named '{name}'"))),
            },
            ExprKind::Call { name, arguments } if name.name == "database" => {
                one(arguments, "database()").map(|database| Target { cluster: None, database })
            }
            ExprKind::Call { name, .. } if name.name == "cluster" => Err(KustoError::unsupported(
                "cluster() must be followed by database() in this server: cluster('c').database('d').T",
            )),
            ExprKind::MemberCall { target, name, arguments } if name.name == "database" => match &target.kind {
                ExprKind::Call { name: cluster, arguments: endpoint } if cluster.name == "cluster" => {
                    let (cluster, database) = (one(endpoint, "cluster()")?, one(arguments, "database()")?);
                    Ok(Target { cluster: self.remote_cluster(&cluster), database })
                }
                _ => Err(KustoError::semantic("SEM0100", "database() follows cluster() or stands alone")),
            },
            _ => Err(KustoError::semantic(
                "SEM0100",
                "An entity is expected before the dot: a scope, cluster() or database()",
            )),
        }
        .map_err(|error| located(scope, expr.span, error))
    }

    /// `entity.Name` or `entity.Name(args)`.
    fn entity_member(
        &self,
        target: &Target,
        name: &str,
        call: Option<(&[Argument], &Expr)>,
        scope: &Scope,
    ) -> Result<Planned, KustoError> {
        if target.cluster.is_some() {
            return match call {
                Some((_, expr)) => self.remote_member(target, expr, scope),
                None => self.remote_name(target, name),
            };
        }
        match call {
            None => self.local_member(&target.database, name, &[], scope),
            Some((arguments, _)) => {
                let function = self.database(&target.database)?.function(name);
                let function = function.ok_or_else(|| functions::unknown_table(name))?;
                self.stored_call(&target.database, &function, arguments, scope)
            }
        }
    }

    /// Whether an expression is tabular, as far as names can tell without planning it.
    pub(crate) fn is_tabular(&self, expr: &Expr, scope: &Scope) -> bool {
        self.looks_tabular(expr, scope, 0)
    }

    fn looks_tabular(&self, expr: &Expr, scope: &Scope, depth: u32) -> bool {
        if depth > 32 {
            return true;
        }
        match &expr.kind {
            ExprKind::Pipeline { .. } | ExprKind::Source(_) => true,
            ExprKind::Name(name) => match scope.lookup(name) {
                Some(Binding::Function(literal, closure)) => self.literal_is_tabular(literal, closure, depth),
                Some(Binding::Scalar(_)) => false,
                Some(_) => true,
                None => self.context.catalog.database(&scope.place.database).is_some_and(|database| {
                    database
                        .named_query(name)
                        .is_some_and(|function| self.literal_is_tabular(&function.literal, scope, depth))
                        || database.table_at(name, self.context.now).is_some()
                }),
            },
            ExprKind::Call { name, arguments } => match scope.lookup(&name.name) {
                Some(Binding::Function(literal, closure)) => self.literal_is_tabular(literal, closure, depth),
                _ if name.name == "materialize" => arguments.len() == 1,
                _ if name.name == "table" => true,
                _ if functions::is_known(&name.name) => false,
                _ => self
                    .context
                    .catalog
                    .database(&scope.place.database)
                    .and_then(|database| database.function(&name.name))
                    .is_some_and(|function| self.literal_is_tabular(&function.literal, scope, depth)),
            },
            ExprKind::Member { target, member } => {
                !member.name.starts_with('$') && self.looks_like_entity(target, scope)
            }
            ExprKind::MemberCall { target, .. } => self.looks_like_entity(target, scope),
            _ => false,
        }
    }

    #[allow(clippy::unused_self)] // Part of the question above.
    fn looks_like_entity(&self, expr: &Expr, scope: &Scope) -> bool {
        match &expr.kind {
            ExprKind::Name(name) => matches!(scope.lookup(name), Some(Binding::Entity(_))),
            ExprKind::Call { name, .. } => matches!(name.name.as_str(), "cluster" | "database"),
            ExprKind::MemberCall { name, .. } => name.name == "database",
            _ => false,
        }
    }

    fn literal_is_tabular(&self, literal: &FunctionLiteral, scope: &Scope, depth: u32) -> bool {
        use kql::syntax::ast::ParameterType;
        // The kinds of parameters and of the body's own names are enough; their values do not matter.
        let mut inner = scope.clone();
        for parameter in &literal.parameters {
            inner = match &parameter.kind {
                ParameterType::Scalar(scalar_type) => {
                    inner.with(&parameter.name.name, Binding::Scalar(Scalar::null(*scalar_type)))
                }
                ParameterType::Table(_) => inner.with(&parameter.name.name, Binding::Group(Arc::default())),
            };
        }
        for statement in &literal.body {
            match statement {
                Statement::Let { name, value: LetValue::Expression(value) } => {
                    let binding = if self.looks_tabular(value, &inner, depth + 1) {
                        Binding::Group(Arc::default())
                    } else {
                        Binding::Scalar(Scalar::null(ScalarType::Dynamic))
                    };
                    inner = inner.with(&name.name, binding);
                }
                Statement::Let { name, value: LetValue::Function(function) } => {
                    let closure = inner.clone();
                    inner = inner.with(&name.name, Binding::Function(Arc::new(function.clone()), closure));
                }
                Statement::Expression(expr) => return self.looks_tabular(expr, &inner, depth + 1),
                _ => {}
            }
        }
        false
    }

    /// The same rows under ids of their own, so that a table can be joined with itself.
    fn refreshed(&self, relation: &Relation) -> Result<Relation, KustoError> {
        // An alias is no bare column, so it gets a new id.
        let columns = relation
            .columns
            .iter()
            .map(|column| {
                let expr = column.scalar().expr.alias(self.ids.next());
                (column.name.clone(), Scalar::new(expr, column.scalar_type))
            })
            .collect();
        let label = relation.label.clone();
        let copied = Relation::new(relation.columns.clone(), relation.plan.clone()).project(&self.ids, columns)?;
        Ok(Relation { label, ..copied })
    }

    /// Rows that are there already, as a planned table.
    pub(crate) fn rows_relation(&self, rows: &Rows) -> Result<Relation, KustoError> {
        self.memory(&rows.schema, &rows.batches, false, None)
    }
}

/// The argument of `materialize(T)`.
fn materialized(expr: &Expr) -> Option<&Expr> {
    match &expr.kind {
        ExprKind::Call { name, arguments } if name.name == "materialize" => match arguments.as_slice() {
            [argument] => Some(&argument.value),
            _ => None,
        },
        _ => None,
    }
}
