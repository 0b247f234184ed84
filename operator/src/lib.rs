//! The operator: owns the lifecycle of clusters, components and agents. In Kubernetes, [`kubernetes`] has a controller for each kind; without it, [`standalone`]
//! supervises one agent process for each document.

pub mod api;
pub mod azure;
pub mod crds;
pub mod kubernetes;
pub mod standalone;
