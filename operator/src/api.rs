//! The custom resources that only the operator reads: Ingestor, Collector, Alerter, with the fields of the seed and of adx-mon's present operator, and ours.
//! ADXCluster's types are in `shared`, since agents read it too. No I/O.

// KubeSchema derives a copy of each struct inside an anonymous constant.
#![allow(unreachable_pub)]

mod alerter;
mod collector;
mod ingestor;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use alerter::{Alerter, AlerterSpec};
pub use collector::{Collector, CollectorSpec};
pub use ingestor::{AutoscalingSpec, Ingestor, IngestorSpec, TlsSpec};

/// Names of objects become names of Services and labels of pods. Of one that is older than this rule the condition tells: refused with everything else, that could
/// not be written.
const NAME_RULE: &str = "oldSelf.hasValue() || self.metadata.name.matches('^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$')";
const NAME_MESSAGE: &str = "metadata.name must be at most 52 lower-case letters, digits and hyphens, beginning with a letter: Services and labels of pods are named after it";

/// What the operator observed of a component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
// As that of an ADXCluster.
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct ComponentStatus {
    /// Standard Kubernetes conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ingestor: where collectors send to. Collector: where it sends to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Ingestor: how many are to run, by its spec or its autoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}
