//! Clusters that are made in Azure, against a double of it that keeps Azure's rules.

mod faults;
mod judged;
mod people;
mod reasons;
pub(crate) mod support;
mod whole;
