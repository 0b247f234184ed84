//! The ADXCluster document: its types ([`spec`]), reading it from a file, and turning it into a configuration that holds ([`validate`]). Agents, `operator
//! standalone` and the Kubernetes operator read the same document. I/O: [`load_document`] and [`load_documents`] read one file; the rest is pure.

mod config;
mod cron;
mod duration;
mod effective;
mod forms;
mod load;
pub mod pods;
pub mod provisioned;
mod rules;
mod schedule;
mod schema;
pub mod spec;
pub mod status;
mod validate;

pub use config::{HubConfig, HubTarget, MembershipConfig, PartitionConfig, TrustConfig, defaults};
pub use cron::{CronError, CronSchedule};
pub use duration::{DurationError, format_duration, parse_duration};
pub use effective::{effective, fingerprint};
pub use load::{Document, DocumentError, ParseError, load_document, load_documents, parse_documents};
pub use rules::sign_in;
pub use schedule::{JITTER, Schedule};
pub use schema::{exceeded_limits, wrong_types};
pub use spec::{ADXCluster, ADXClusterSpec, ADXClusterStatus, ClusterRole, FederationMode};
pub use validate::{Validated, Violation, Violations, check, hub_config, partition_config, validate};
