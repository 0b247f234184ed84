//! What one query needs while it is planned and run: its context, column ids, cached tables, warnings. Blocking; lives on the query's own thread.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use datafusion::prelude::SessionContext;
use kql::syntax::ast::{Expr, Operator, Span};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{
    QueryContext,
    relation::Ids,
    scope::{Place, Scope},
    session::session,
};
use crate::{
    catalog::{Database, StoredFunction},
    error::KustoError,
    rows::{Rows, Schema},
};

/// How deep expressions and calls may nest. The parser bounds nesting in a text; this bounds what calls add to it.
const MAX_DEPTH: u32 = 1_000;
/// How deep functions may call each other.
const MAX_CALLS: usize = 32;

/// A `let`'s value and the rows it gave.
type Materialized = (Arc<Expr>, Arc<Rows>);

/// One query on its way from syntax tree to rows.
pub(crate) struct Planner {
    pub(crate) context: QueryContext,
    pub(crate) session: SessionContext,
    pub(crate) runtime: Handle,
    pub(crate) cancelled: CancellationToken,
    pub(crate) ids: Ids,
    /// Results of `let T = materialize(...)`, by the address of the `let`'s value, which is kept here so that no other can get the address.
    pub(crate) materialized: RefCell<HashMap<usize, Materialized>>,
    pub(crate) warnings: RefCell<Vec<String>>,
    /// Each table as it was when the query first read it: a query sees one state.
    pub(crate) snapshots: RefCell<BTreeMap<(String, String), crate::catalog::TableSnapshot>>,
    /// A leg failed in a way that columns remembered from earlier may have caused: worth one more try.
    pub(crate) stale_schema: Cell<bool>,
    depth: Cell<u32>,
}

impl Planner {
    pub(crate) fn new(context: QueryContext, runtime: Handle, cancelled: CancellationToken) -> Self {
        Self {
            context,
            session: session(),
            runtime,
            cancelled,
            ids: Ids::default(),
            materialized: RefCell::default(),
            warnings: RefCell::default(),
            snapshots: RefCell::default(),
            stale_schema: Cell::new(false),
            depth: Cell::new(0),
        }
    }

    /// Runs `work` one level deeper; too deep is an error, not a crash.
    pub(crate) fn deeper<T>(&self, work: impl FnOnce() -> Result<T, KustoError>) -> Result<T, KustoError> {
        if self.depth.get() >= MAX_DEPTH {
            return Err(KustoError::unsupported(format!(
                "The query nests more than {MAX_DEPTH} levels deep, which this server refuses"
            )));
        }
        if self.cancelled.is_cancelled() || self.context.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(timed_out());
        }
        self.depth.set(self.depth.get() + 1);
        let result = work();
        self.depth.set(self.depth.get() - 1);
        result
    }

    pub(crate) fn warn(&self, warning: String) {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// The scope in which the query's text stands.
    pub(crate) fn root(&self, text: Option<&str>) -> Scope {
        Scope::new(Place {
            database: self.context.database.clone(),
            text: text.map(Arc::from),
            calls: Vec::new(),
            in_macro_expand: false,
        })
    }

    /// The scope of a stored function's body. Kusto puts the body where the call stands, so the caller's names are seen in it (measured on Microsoft's
    /// emulator); a function of another database is called by its own.
    pub(crate) fn function_scope(
        &self,
        caller: &Scope,
        database: &str,
        function: &StoredFunction,
    ) -> Result<Scope, KustoError> {
        let mut calls = caller.place.calls.clone();
        let name = format!("{database}.{}", function.name);
        if calls.contains(&name) {
            return Err(KustoError::semantic(
                "SEM0101",
                format!(
                    "The function '{}' calls itself, directly or through others: {}",
                    function.name,
                    calls.join(" -> ")
                ),
            ));
        }
        if calls.len() >= MAX_CALLS {
            return Err(KustoError::unsupported(format!(
                "Functions call each other more than {MAX_CALLS} levels deep"
            )));
        }
        calls.push(name);
        let place =
            Place { database: database.to_owned(), text: None, calls, in_macro_expand: caller.place.in_macro_expand };
        Ok(if caller.place.database == database { caller.in_place(place) } else { Scope::new(place) })
    }

    /// A database of this server.
    pub(crate) fn database(&self, name: &str) -> Result<Arc<Database>, KustoError> {
        self.context.catalog.database(name).ok_or_else(|| KustoError::database_unresolved(name))
    }

    pub(crate) fn apply_to_rows(&self, input: &Rows, operators: &[Operator]) -> Result<Rows, KustoError> {
        let relation = self.rows_relation(input)?;
        let scope = self.root(None);
        let relation = self.operators(super::tabular::Planned::Relation(relation), operators, &scope)?;
        let relation = self.resolve(relation)?;
        let mut rows = self.execute(relation)?;
        rows.name.clone_from(&input.name);
        rows.warnings.extend(self.warnings.take());
        Ok(rows)
    }

    pub(crate) fn function_schema(&self, function: &Arc<StoredFunction>) -> Result<Schema, KustoError> {
        let scope = self.function_scope(&self.root(None), &self.context.database, function)?;
        if function.literal.parameters.iter().any(|parameter| parameter.default.is_none()) {
            return Err(KustoError::bad_request("The columns of a function with parameters depend on its arguments."));
        }
        let scope = self.bind_parameters(&function.literal, &[], None, &scope, &scope)?;
        let planned = self.body(&function.literal.body, scope)?;
        Ok(self.planned_schema(&planned))
    }
}

/// The error of a query whose time is up.
pub(crate) fn timed_out() -> KustoError {
    KustoError::timed_out("The query ran longer than its time-out allows, or its client went away.")
}

/// An error with the position of a part of the text, where positions are those of the query.
pub(crate) fn located(scope: &Scope, span: Span, error: KustoError) -> KustoError {
    match &scope.place.text {
        Some(text) => error.at_offset(text, span.start),
        None => error,
    }
}
