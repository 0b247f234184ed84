//! What DataFusion does with a plan before it runs: the rules that this server's plans need, and no others. Pure; used for every result and every subquery.
//!
//! DataFusion's own list is for tables of gigabytes on many processors, and goes through a plan a hundred times. Here tables are small and in memory, and plans
//! come from KQL alone: planning is most of what a query costs.

use std::sync::{Arc, LazyLock};

use datafusion::{
    execution::{SessionState, SessionStateBuilder},
    optimizer::{
        OptimizerRule, common_subexpr_eliminate::CommonSubexprEliminate, eliminate_limit::EliminateLimit,
        optimize_projections::OptimizeProjections, push_down_filter::PushDownFilter, push_down_limit::PushDownLimit,
        simplify_expressions::SimplifyExpressions,
    },
    physical_optimizer::{
        PhysicalOptimizerRule, combine_partial_final_agg::CombinePartialFinalAggregate, ensure_coop::EnsureCooperative,
        ensure_requirements::EnsureRequirements, output_requirements::OutputRequirements,
        sanity_checker::SanityCheckPlan,
    },
    prelude::{SessionConfig, SessionContext},
};

/// The same for all queries: none of them changes it.
static STATE: LazyLock<SessionState> = LazyLock::new(|| {
    // One partition: rows keep their order, and a laptop's queries are too small to be worth splitting.
    let mut config = SessionConfig::new().with_target_partitions(1).with_create_default_catalog_and_schema(false);
    // Each rule sees what those before it made; what a second pass finds is not worth a second pass.
    config.options_mut().optimizer.max_passes = 1;
    // No registered functions: plans hold the ones they call.
    SessionStateBuilder::new()
        .with_config(config)
        .with_optimizer_rules(rules())
        .with_physical_optimizer_rules(physical_rules())
        .build()
});

/// A session of one query.
pub(crate) fn session() -> SessionContext {
    SessionContext::new_with_state(STATE.clone())
}

/// In DataFusion's order. What is missing is for subqueries, outer references and unnested structures, of which there are none, or finds what KQL is not written with.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    vec![
        // Some functions exist only until they are simplified: coalesce() becomes a case.
        Arc::new(SimplifyExpressions::new()),
        // A limit of none must not come to a sort, which asserts that it keeps some.
        Arc::new(EliminateLimit::new()),
        Arc::new(PushDownLimit::new()),
        Arc::new(PushDownFilter::new()),
        // What several columns are read from is parsed once.
        Arc::new(CommonSubexprEliminate::new()),
        // Each operator of KQL is a projection or two.
        Arc::new(OptimizeProjections::new()),
    ]
}

/// In DataFusion's order.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    vec![
        // The order of the result is asked for, so that it is kept.
        Arc::new(OutputRequirements::new_add_mode()),
        Arc::new(EnsureRequirements::new()),
        Arc::new(CombinePartialFinalAggregate::new()),
        Arc::new(OutputRequirements::new_remove_mode()),
        // A query that takes long gives way to its deadline.
        Arc::new(EnsureCooperative::new()),
        Arc::new(SanityCheckPlan::new()),
    ]
}
