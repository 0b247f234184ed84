//! The operator: owns the lifecycle of agents. Without Kubernetes, [`standalone`] supervises one agent process for each document.

pub mod crds;
pub mod standalone;
