//! The legs of a federated table: planned here if they are local, as text and columns if they are remote, united when somebody needs the rows. Blocking;
//! remote legs are asked concurrently.

use futures::future::join_all;
use kql::syntax::ast::{EntityGroup, Expr, MacroExpand, NamedExpr, Operator, OperatorKind, Span, Statement};

use super::{
    remote::canonical,
    ship::{self, Shipment, ident, member_of, nested, plain},
};
use crate::{
    catalog::Entity,
    engine::{
        Limits,
        planner::{Planner, located},
        relation::Relation,
        scalar::Scalar,
        scope::{Binding, Place, Scope, Target},
        statements::declared_once,
        tabular::Planned,
        union::{UnitedColumn, flag, is_unresolved, united_columns},
    },
    error::{KustoError, KustoErrorKind},
    rows::{Column, Rows, Schema},
};
use kql::syntax::ast::{Argument, ExprKind, Literal, ParameterValue};

/// A table in several places. Every leg has the same columns: those of `shape`.
pub(crate) struct Legs {
    /// A table without rows, on which following operators are bound.
    pub(super) shape: Relation,
    pub(super) legs: Vec<Leg>,
    pub(super) tolerance: Tolerance,
}

pub(super) enum Leg {
    Local(Relation),
    Remote(RemoteLeg),
}

/// A text for another server.
pub(super) struct RemoteLeg {
    pub(super) target: Target,
    /// `let` statements and, last, the source.
    statements: Vec<Statement>,
    /// What was written behind the source since.
    pub(super) operators: Vec<Operator>,
}

/// Which failures leave a leg out instead of failing the query.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tolerance {
    /// A table, function or database that is not there.
    fuzzy: bool,
    /// That, and a server that cannot be reached or has no answer now. A leg with a mistake in its text or too large a result fails the query.
    best_effort: bool,
}

impl Tolerance {
    const fn forgives(self, error: &KustoError) -> bool {
        match error.kind {
            KustoErrorKind::RemoteFailed | KustoErrorKind::Throttled | KustoErrorKind::TimedOut => self.best_effort,
            _ => (self.fuzzy || self.best_effort) && is_unresolved(error),
        }
    }
}

impl Legs {
    pub(crate) fn schema(&self) -> Schema {
        self.shape.schema()
    }
}

impl RemoteLeg {
    /// The text that the server runs.
    fn text(&self) -> String {
        let mut statements = self.statements.clone();
        if let Some(Statement::Expression(source)) = statements.pop() {
            let whole = if self.operators.is_empty() {
                source
            } else {
                plain(ExprKind::Pipeline { source: Box::new(source), operators: self.operators.clone() })
            };
            statements.push(Statement::Expression(whole));
        }
        kql::syntax::printer::Statements(&statements).to_string()
    }

    fn cluster(&self) -> &str {
        self.target.cluster.as_deref().unwrap_or_default()
    }
}

/// A leg whose columns are known.
struct Described {
    leg: Leg,
    schema: Schema,
}

pub(super) fn operator(kind: OperatorKind) -> Operator {
    Operator { kind, span: Span::default() }
}

impl Planner {
    /// A cluster's endpoint in one spelling; `None` if it is this server.
    pub(crate) fn remote_cluster(&self, cluster: &str) -> Option<String> {
        let cluster = canonical(cluster);
        (cluster != canonical(self.context.catalog.own_endpoint())).then_some(cluster)
    }

    /// `macro-expand group as X ( body )`
    pub(crate) fn macro_expand(&self, expand: &MacroExpand, scope: &Scope) -> Result<Legs, KustoError> {
        if scope.place.in_macro_expand {
            return Err(nested());
        }
        declared_once(&expand.body, &[]).map_err(|(span, error)| located(scope, span, error))?;
        let (inner, tolerance) = options(expand, scope)?;
        let targets = self.targets(&expand.group, scope)?;
        let mut described = Vec::with_capacity(targets.len());
        let mut failure = None;
        let mut waiting = Vec::new();
        for (position, target) in targets.into_iter().enumerate() {
            match self.leg(expand, &target, scope) {
                Ok(Waiting::Known(leg)) => described.push((position, leg)),
                Ok(Waiting::Remote(leg, text)) => waiting.push((position, leg, text)),
                Err(error) if tolerance.forgives(&error) => failure = Some(self.left_out(&target, &error)),
                Err(error) => return Err(error),
            }
        }
        let schemas = self.remote_schemas(&waiting)?;
        for ((position, leg, _), schema) in waiting.into_iter().zip(schemas) {
            match schema {
                Ok(schema) => described.push((position, Described { leg: Leg::Remote(leg), schema })),
                Err(error) if tolerance.forgives(&error) => failure = Some(self.left_out(&leg.target, &error)),
                Err(error) => return Err(error),
            }
        }
        if described.is_empty() {
            return Err(failure.unwrap_or_else(|| KustoError::semantic("SEM0100", "The entity group is empty")));
        }
        described.sort_by_key(|(position, _)| *position);
        self.same_columns(described.into_iter().map(|(_, leg)| leg).collect(), inner, tolerance)
    }

    fn left_out(&self, target: &Target, error: &KustoError) -> KustoError {
        let entity = Entity { cluster: target.cluster.clone(), database: target.database.clone() };
        self.warn(format!("macro-expand left out {}: {error}", entity.text()));
        error.clone()
    }

    /// The entities of a group; the same one twice is refused.
    fn targets(&self, group: &EntityGroup, scope: &Scope) -> Result<Vec<Target>, KustoError> {
        let entities = match group {
            EntityGroup::Inline(entities) => self.entities(entities, scope)?,
            EntityGroup::Named(name) => match scope.lookup(&name.name) {
                Some(Binding::Group(entities)) => entities.to_vec(),
                _ => {
                    let stored = self.database(&scope.place.database)?.entity_group(&name.name);
                    let stored = stored.ok_or_else(|| {
                        let error = KustoError::semantic(
                            "SEM0100",
                            format!("Failed to resolve entity group named '{}'", name.name),
                        );
                        located(scope, name.span, error)
                    })?;
                    stored.to_vec()
                }
            },
        };
        let mut targets: Vec<Target> = Vec::with_capacity(entities.len());
        for entity in entities {
            let cluster = entity.cluster.as_deref().and_then(|cluster| self.remote_cluster(cluster));
            let target = Target { cluster, database: entity.database };
            // Names of databases do not regard case.
            let twice = targets.iter().any(|present| {
                present.cluster == target.cluster && present.database.eq_ignore_ascii_case(&target.database)
            });
            if twice {
                let entity = Entity { cluster: target.cluster, database: target.database };
                return Err(KustoError::semantic(
                    "SEM0614",
                    format!("The entity {} is in the group twice", entity.text()),
                ));
            }
            targets.push(target);
        }
        Ok(targets)
    }

    /// One leg: planned if its database is here, a text if it is on another server.
    fn leg(&self, expand: &MacroExpand, target: &Target, scope: &Scope) -> Result<Waiting, KustoError> {
        let inner = Place { in_macro_expand: true, ..Place::clone(&scope.place) };
        let inner = scope.in_place(inner).with(&expand.scope.name, Binding::Entity(target.clone()));
        if target.cluster.is_none() {
            let database = self.database(&target.database)?;
            let target = Target { cluster: None, database: database.name().to_owned() };
            let inner = inner.with(&expand.scope.name, Binding::Entity(target));
            let planned = self.body(&expand.body, inner)?;
            let relation = self.resolve(planned)?;
            let schema = relation.schema();
            return Ok(Waiting::Known(Described { leg: Leg::Local(relation), schema }));
        }
        let shipment = Shipment { planner: self, scope_name: Some(&expand.scope.name), target, scope, now: None };
        // The text whose columns are asked for does not change from one query to the next: now() stays in it.
        let stable =
            RemoteLeg { target: target.clone(), statements: shipment.statements(&expand.body)?, operators: Vec::new() };
        let timed = Shipment { now: Some(self.context.now), ..shipment };
        let leg =
            RemoteLeg { statements: timed.statements(&expand.body)?, target: target.clone(), operators: Vec::new() };
        Ok(Waiting::Remote(leg, stable.text()))
    }

    /// `cluster('c').database('d').T`
    pub(crate) fn remote_name(&self, target: &Target, name: &str) -> Result<Planned, KustoError> {
        self.single(target, member_of(&target.database, name))
    }

    /// `cluster('c').database('d').F(1)` and `.table('T')`: the arguments are constants.
    pub(crate) fn remote_member(&self, target: &Target, call: &Expr, scope: &Scope) -> Result<Planned, KustoError> {
        let ExprKind::MemberCall { name, arguments, .. } = &call.kind else {
            return Err(KustoError::internal("A remote call is no call."));
        };
        let binder = crate::engine::expression::Binder::new(self, scope, None);
        let mut sent = Vec::with_capacity(arguments.len());
        for argument in arguments {
            if self.is_tabular(&argument.value, scope) {
                return Err(KustoError::unsupported(format!(
                    "A table as an argument of '{}' on another server is not supported",
                    name.name
                )));
            }
            let value: Scalar = self.fold(binder.bind(&argument.value)?)?;
            let value = value.to_literal().ok_or_else(|| {
                KustoError::semantic(
                    "SEM0120",
                    format!("The arguments of '{}' on another server are constants", name.name),
                )
            })?;
            sent.push(Argument { name: argument.name.clone(), value: ship::literal(value) });
        }
        let ExprKind::Member { target: database, .. } = member_of(&target.database, "").kind else {
            return Err(KustoError::internal("A member is no member."));
        };
        self.single(target, plain(ExprKind::MemberCall { target: database, name: name.clone(), arguments: sent }))
    }

    fn single(&self, target: &Target, source: Expr) -> Result<Planned, KustoError> {
        let leg = RemoteLeg {
            target: target.clone(),
            statements: vec![Statement::Expression(source)],
            operators: Vec::new(),
        };
        let text = leg.text();
        let waiting = [(0, leg, text)];
        let schema = self.remote_schemas(&waiting)?.pop();
        let schema =
            schema.unwrap_or_else(|| Err(KustoError::internal("A remote table was not asked for its columns.")))?;
        let [(_, leg, _)] = waiting;
        let described = Described { leg: Leg::Remote(leg), schema };
        self.same_columns(vec![described], false, Tolerance::default()).map(Planned::Legs)
    }

    /// The columns of remote legs, from memory or asked for concurrently.
    fn remote_schemas(
        &self,
        waiting: &[(usize, RemoteLeg, String)],
    ) -> Result<Vec<Result<Schema, KustoError>>, KustoError> {
        let remote = &self.context.remote;
        let (deadline, limits) = (self.context.deadline, self.leg_limits());
        self.block_on(join_all(waiting.iter().map(async |(_, leg, text)| {
            let (cluster, database) = (leg.cluster(), leg.target.database.as_str());
            if let Some(schema) = remote.known_schema(cluster, database, text) {
                return Ok(schema);
            }
            let question = RemoteLeg {
                target: leg.target.clone(),
                statements: leg.statements.clone(),
                operators: vec![operator(OperatorKind::GetSchema)],
            };
            let rows = remote.query(cluster, database, &question.text(), deadline, limits).await?;
            let schema = described_schema(cluster, &rows)?;
            remote.remember_schema(cluster, database, text, &schema);
            Ok(schema)
        })))
    }

    fn leg_limits(&self) -> Limits {
        let kusto = Limits::default();
        Limits { rows: kusto.rows.min(self.context.limits.rows), bytes: kusto.bytes.min(self.context.limits.bytes) }
    }

    /// Gives every leg the columns of the union of all: renamed where types differ, null where a leg has none.
    fn same_columns(&self, legs: Vec<Described>, inner: bool, tolerance: Tolerance) -> Result<Legs, KustoError> {
        let schemas: Vec<Schema> = legs.iter().map(|leg| leg.schema.clone()).collect();
        let united = united_columns(&schemas, inner);
        let schema: Schema = united.iter().map(|column| column.column.clone()).collect();
        let shape = self.memory(&schema, &[], false, None)?;
        let mut adjusted = Vec::with_capacity(legs.len());
        for described in legs {
            adjusted.push(if described.schema == schema {
                described.leg
            } else {
                match described.leg {
                    Leg::Local(relation) => Leg::Local(self.adjust_local(relation, &united)?),
                    Leg::Remote(mut leg) => {
                        leg.operators.push(adjust_remote(&described.schema, &united));
                        Leg::Remote(leg)
                    }
                }
            });
        }
        Ok(Legs { shape, legs: adjusted, tolerance })
    }

    fn adjust_local(&self, relation: Relation, united: &[UnitedColumn]) -> Result<Relation, KustoError> {
        let columns = united
            .iter()
            .map(|wanted| {
                let present = relation
                    .column(&wanted.origin)
                    .filter(|column| column.scalar_type == wanted.column.scalar_type)
                    .map_or_else(
                        || Scalar::null(wanted.column.scalar_type),
                        crate::engine::relation::BoundColumn::scalar,
                    );
                (wanted.column.name.clone(), present)
            })
            .collect();
        relation.project(&self.ids, columns)
    }

    /// The rows of all legs as one planned table.
    pub(crate) fn resolve(&self, planned: Planned) -> Result<Relation, KustoError> {
        let legs = match planned {
            Planned::Relation(relation) => return Ok(relation),
            Planned::Legs(legs) => legs,
        };
        let remote = &self.context.remote;
        let (deadline, limits) = (self.context.deadline, self.leg_limits());
        let answers = self.block_on(join_all(legs.legs.iter().map(async |leg| match leg {
            Leg::Local(_) => None,
            Leg::Remote(leg) => {
                Some(remote.query(leg.cluster(), &leg.target.database, &leg.text(), deadline, limits).await)
            }
        })))?;
        let schema = legs.schema();
        let mut tables = Vec::with_capacity(legs.legs.len());
        let mut failure = None;
        for (leg, answer) in legs.legs.into_iter().zip(answers) {
            match (leg, answer) {
                (Leg::Remote(leg), Some(answer)) => match answer.and_then(|rows| self.expected(&leg, &rows, &schema)) {
                    Ok(relation) => tables.push(relation),
                    Err(error) => {
                        if matches!(error.kind, KustoErrorKind::Semantic { .. } | KustoErrorKind::Unresolved { .. }) {
                            // The columns may be others by now: what we remember of them is not to be trusted.
                            remote.clear(leg.cluster(), &leg.target.database);
                            self.stale_schema.set(true);
                        }
                        if !legs.tolerance.forgives(&error) {
                            return Err(error);
                        }
                        failure = Some(self.left_out(&leg.target, &error));
                    }
                },
                (Leg::Local(relation), _) => tables.push(relation),
                (Leg::Remote(_), None) => {}
            }
        }
        match failure {
            Some(failure) if tables.is_empty() => Err(failure),
            _ => self.unite(&tables, false),
        }
    }

    /// The answer of a leg, which must have the columns that were planned.
    fn expected(&self, leg: &RemoteLeg, rows: &Rows, schema: &Schema) -> Result<Relation, KustoError> {
        if rows.schema != *schema {
            return Err(KustoError::semantic(
                "SEM0001",
                format!("The columns of the leg on '{}' have changed while the query was planned", leg.cluster()),
            ));
        }
        self.rows_relation(rows)
    }
}

enum Waiting {
    Known(Described),
    Remote(RemoteLeg, String),
}

fn options(expand: &MacroExpand, scope: &Scope) -> Result<(bool, Tolerance), KustoError> {
    let (mut inner, mut tolerance) = (false, Tolerance::default());
    for parameter in &expand.parameters {
        match (parameter.name.name.as_str(), &parameter.value) {
            ("kind", ParameterValue::Name(kind)) if kind.name == "inner" => inner = true,
            ("kind", ParameterValue::Name(kind)) if kind.name == "outer" => inner = false,
            ("isfuzzy", value) => tolerance.fuzzy = flag(value, parameter, scope)?,
            ("best_effort", value) => tolerance.best_effort = flag(value, parameter, scope)?,
            (name, _) if name.starts_with("hint.") => {}
            (name, _) => {
                let error = KustoError::unsupported(format!(
                    "macro-expand: the parameter '{name}' has a value this server does not know"
                ));
                return Err(located(scope, parameter.name.span, error));
            }
        }
    }
    Ok((inner, tolerance))
}

/// `project a = a, b = long(null)`: a leg's own columns as the union's.
fn adjust_remote(own: &Schema, united: &[UnitedColumn]) -> Operator {
    let columns = united
        .iter()
        .map(|wanted| {
            let present = own
                .columns()
                .iter()
                .any(|column| column.name == wanted.origin && column.scalar_type == wanted.column.scalar_type);
            let value = if present {
                plain(ExprKind::Name(wanted.origin.clone()))
            } else {
                ship::literal(
                    Scalar::null(wanted.column.scalar_type)
                        .to_literal()
                        .unwrap_or(Literal::Dynamic(serde_json::Value::Null)),
                )
            };
            NamedExpr { name: Some(ident(&wanted.column.name)), value }
        })
        .collect();
    operator(OperatorKind::Project(columns))
}

/// The columns that an answer to `getschema` lists.
fn described_schema(cluster: &str, rows: &Rows) -> Result<Schema, KustoError> {
    let (Some(name), Some(scalar_type)) = (rows.schema.index_of("ColumnName"), rows.schema.index_of("ColumnType"))
    else {
        return Err(KustoError::remote_failed(format!("The cluster '{cluster}' did not describe its columns.")));
    };
    rows.json()
        .iter()
        .map(|row| {
            let scalar_type = row[scalar_type].as_str().and_then(|name| name.parse().ok());
            match (row[name].as_str(), scalar_type) {
                (Some(name), Some(scalar_type)) => Ok(Column::new(name, scalar_type)),
                _ => Err(KustoError::remote_failed(format!(
                    "The cluster '{cluster}' described a column without a type."
                ))),
            }
        })
        .collect()
}
