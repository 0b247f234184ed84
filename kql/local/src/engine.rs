//! The query engine: KQL's syntax tree to a DataFusion plan to rows. The commands and the wire protocol call [`run_query`]; commands with a pipe after
//! them call [`apply_operators`]. Reads the catalog, and other loopback servers when a query names them; changes nothing.
//!
//! A query runs on a thread of its own with a large stack: planning is plain recursive code that can stop for a subquery (`toscalar`, `in (T)`), and no
//! text can exhaust the stack of a server thread.

mod collect;
mod constant;
mod execute;
mod expression;
mod federation;
mod functions;
mod join;
mod json;
mod kernel;
mod mv_expand;
mod naming;
mod operators;
mod pipeline;
mod planner;
mod relation;
mod scalar;
mod scope;
mod session;
mod several_columns;
mod sources;
mod statements;
mod summarize;
mod tabular;
mod text_match;
mod union;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use kql::syntax::{ast::Operator, parser};
use tokio_util::sync::CancellationToken;

pub use self::federation::remote::RemoteClusters;
use self::planner::Planner;
use crate::{
    catalog::{Catalog, StoredFunction},
    error::{KustoError, KustoErrorKind},
    rows::{Rows, Schema},
};

/// Caps on every result, and on what each remote server returns for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows.
    pub rows: u64,
    /// Bytes of column data.
    pub bytes: u64,
}

impl Default for Limits {
    /// Kusto's own: 500,000 rows, 64 MB.
    fn default() -> Self {
        Self { rows: 500_000, bytes: 64 * 1024 * 1024 }
    }
}

/// What a query runs in.
#[derive(Debug, Clone)]
pub struct QueryContext {
    /// The databases.
    pub catalog: Arc<Catalog>,
    /// The database of unqualified names.
    pub database: String,
    /// `now()`, in ticks.
    pub now: i64,
    /// Values of `declare query_parameters`: name to KQL literal.
    pub parameters: BTreeMap<String, String>,
    /// Caps on results.
    pub limits: Limits,
    /// When the query is given up.
    pub deadline: Option<Instant>,
    /// The way to other servers.
    pub remote: RemoteClusters,
}

/// Runs a query text: one table for every tabular statement.
///
/// # Errors
///
/// Everything a query can be refused for or fail with; see [`KustoErrorKind`].
pub async fn run_query(context: &QueryContext, text: &str) -> Result<Vec<Rows>, KustoError> {
    let text = text.to_owned();
    on_own_thread(context, move |planner| {
        let query = parser::parse_query(&text).map_err(|error| syntax(&error))?;
        planner.run(&query, &text)
    })
    .await
}

/// Sends rows through tabular operators: what a command's pipe does.
///
/// # Errors
///
/// As [`run_query`].
pub async fn apply_operators(context: &QueryContext, input: Rows, operators: &[Operator]) -> Result<Rows, KustoError> {
    let operators = operators.to_vec();
    on_own_thread(context, move |planner| planner.apply_to_rows(&input, &operators)).await
}

/// The columns that a stored function without parameters returns.
///
/// # Errors
///
/// The function has parameters or is scalar, or its body cannot be planned: a table is gone, a remote server is away.
pub async fn infer_schema(context: &QueryContext, function: &StoredFunction) -> Result<Schema, KustoError> {
    let function = Arc::new(function.clone());
    on_own_thread(context, move |planner| planner.function_schema(&function)).await
}

fn syntax(error: &kql::syntax::error::SyntaxError) -> KustoError {
    use kql::syntax::error::SyntaxErrorKind;
    let described = match error.kind {
        SyntaxErrorKind::Unsupported => KustoError::unsupported(error.message.clone()),
        SyntaxErrorKind::Syntax | SyntaxErrorKind::TooDeep => KustoError::syntax(error.message.clone()),
    };
    described.at((error.line, error.column))
}

/// Enough for the deepest tree the parser lets through, in a debug build too.
const STACK_BYTES: usize = 64 * 1024 * 1024;

async fn on_own_thread<T: Send + 'static>(
    context: &QueryContext,
    work: impl Fn(&Planner) -> Result<T, KustoError> + Send + 'static,
) -> Result<T, KustoError> {
    let (context, runtime) = (context.clone(), tokio::runtime::Handle::current());
    // Dropped with this future: a client that goes away stops its query.
    let cancelled = CancellationToken::new();
    let guard = cancelled.clone().drop_guard();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("query".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let attempt = || {
                let planner = Planner::new(context.clone(), runtime.clone(), cancelled.clone());
                (work(&planner), planner.stale_schema.get())
            };
            let answer = match attempt() {
                // Remote columns were remembered wrongly and are forgotten by now.
                (Err(_), true) => attempt().0,
                (answer, _) => answer,
            };
            // The receiver is gone when the client is: nobody waits for the answer then.
            let _ = sender.send(answer);
        })
        .map_err(|error| {
            KustoError::new(KustoErrorKind::Throttled, format!("A thread for the query could not be started: {error}."))
        })?;
    let answer = receiver
        .await
        .unwrap_or_else(|_| Err(KustoError::internal("The query ended without an answer; this is a bug.")));
    drop(guard);
    answer
}
