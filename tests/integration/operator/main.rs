//! The operator on a real control plane: every story has a namespace, a kubelet and an operator of its own, under the rights of `deploy/kustomize`.

mod admission;
mod azure;
mod components;
mod deleting;
mod deployment;
mod drift;
mod examples;
mod expired;
mod faults;
mod federation;
mod killed;
mod kstatus;
mod kubectl;
mod leading;
mod meanwhile;
mod metrics;
mod resilience;
mod rest;
mod rights;
mod schema;
mod scope;
mod support;
mod unions;
mod unready;
mod upgrade;
