//! The operator's metrics in Kubernetes, beside those that it shares with the agents. No I/O.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::{child::Kind, reconcile::Outcome};

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct OperatorMetrics {
    reconciles: Family<KindOutcome, Counter>,
    duration: Histogram,
    drift: Family<KindOnly, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindOutcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindOnly {
    kind: &'static str,
}

impl OperatorMetrics {
    /// Registers them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            duration: Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
            drift: Family::default(),
        };
        registry.register("reconciles", "Reconciles by kind and by how they ended", metrics.reconciles.clone());
        registry.register("reconcile_duration_seconds", "How long reconciles took", metrics.duration.clone());
        registry.register(
            "drift_reverted",
            "Objects of ours that others had changed, by their owner's kind",
            metrics.drift.clone(),
        );
        metrics
    }

    pub(crate) fn reconciled(&self, kind: Kind, outcome: Outcome, duration: Duration) {
        self.reconciles.get_or_create_owned(&KindOutcome { kind: kind.as_str(), outcome: outcome.as_str() }).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    pub(crate) fn drift(&self, kind: Kind, count: usize) {
        self.drift
            .get_or_create_owned(&KindOnly { kind: kind.as_str() })
            .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }
}
