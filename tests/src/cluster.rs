//! A real Kubernetes for stories: etcd, kube-apiserver and kube-controller-manager as processes, a namespace and an operator for each test, and a kubelet that
//! runs our real agents. I/O: processes, a temporary folder, loopback HTTPS.

mod built;
mod control_plane;
mod faults;
mod image;
mod kstatus;
mod kubectl;
mod kubelet;
mod left;
mod namespace;
mod objects;
mod proxy;
mod rights;
mod told;
mod versions;

pub use control_plane::{ControlPlane, definitions_of};
pub use faults::{Spoilt, WriteFault};
pub use image::ImageRoot;
pub use kstatus::{Kstatus, Verdict};
pub use kubectl::Kubectl;
pub use kubelet::{AGENT_IMAGE, Kubelet, PodLife};
pub use left::{EARLIER_DEFINITIONS, Left, SEEMING_AGENT, is_peoples, name_of};
pub use namespace::{KINDS, Operator, OperatorOptions, PATIENCE, TestNamespace, condition_of, is_observed, message_of};
pub use objects::{CLUSTER, UNREACHABLE_HUB, UNREACHABLE_PARTITION, apply_yaml, documents, kind_of, objects_of};
pub use proxy::{ApiProxy, Seen};
pub use rights::{Asked, rights_of};
pub use versions::Versions;
