//! Which partitions the hub federates, by its owner's word: an allow-list, a pattern, a block-list; and those whose check failed. Pure.
//!
//! That an endpoint is a Kusto cluster of the hub's cloud at all is checked before, where beats are read.

use std::collections::{BTreeMap, BTreeSet};

use kql::endpoint::ClusterEndpoint;

/// The owner's word, and what checks found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Partitions by name; without this and a pattern, all that beat.
    pub allowed: Option<BTreeSet<ClusterEndpoint>>,
    /// Partitions by a pattern of their host, in which `*` stands for any characters.
    pub pattern: Option<HostPattern>,
    /// Partitions that are left out.
    pub blocked: BTreeSet<ClusterEndpoint>,
    /// New partitions whose canary query failed, with its error.
    pub failed_canaries: BTreeMap<ClusterEndpoint, String>,
}

/// Whether a partition may be federated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// A person excluded it by name.
    Blocked,
    /// It may not, for this reason.
    Refused(String),
}

impl Trust {
    /// What is to become of a partition that beats.
    pub fn admission(&self, endpoint: &ClusterEndpoint) -> Admission {
        if self.blocked.contains(endpoint) {
            return Admission::Blocked;
        }
        let is_listed = self.allowed.as_ref().is_some_and(|allowed| allowed.contains(endpoint));
        let fits = self.pattern.as_ref().is_some_and(|pattern| pattern.fits(endpoint.host()));
        let is_open = self.allowed.is_none() && self.pattern.is_none();
        if !(is_listed || fits || is_open) {
            let why = "it is neither listed in allowedPartitions nor does allowedPartitionPattern fit it";
            return Admission::Refused(why.to_owned());
        }
        match self.failed_canaries.get(endpoint) {
            Some(error) => Admission::Refused(format!("its canary query failed: {error}")),
            None => Admission::Admitted,
        }
    }
}

/// A host name with `*` for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// Hosts have no case.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase())
    }

    /// Whether a host, which endpoints have in lower case, is one of them.
    pub fn fits(&self, host: &str) -> bool {
        let parts: Vec<&str> = self.0.split('*').collect();
        let [first, middle @ .., last] = parts.as_slice() else { return self.0 == host };
        let Some(rest) = host.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
        // The leftmost place of each part leaves the most room for the next.
        middle.iter().try_fold(rest, |rest, part| rest.find(part).map(|at| &rest[at + part.len()..])).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> ClusterEndpoint {
        ClusterEndpoint::parse(&format!("https://{host}")).unwrap()
    }

    #[test]
    fn without_a_list_all_are_admitted_and_with_one_only_those_on_it_and_those_that_fit() {
        let (eu, us) = (endpoint("eu.kusto.windows.net"), endpoint("us.kusto.windows.net"));
        assert_eq!(Trust::default().admission(&eu), Admission::Admitted);
        let listed = Trust { allowed: Some([eu.clone()].into()), ..Trust::default() };
        assert_eq!(listed.admission(&eu), Admission::Admitted);
        assert!(matches!(listed.admission(&us), Admission::Refused(why) if why.contains("allowedPartitions")));
        let fitting = Trust { pattern: Some(HostPattern::new("U*.kusto.windows.net")), ..listed.clone() };
        assert_eq!(fitting.admission(&us), Admission::Admitted);
        assert_eq!(Trust { allowed: Some(BTreeSet::new()), ..Trust::default() }.admission(&eu), listed.admission(&us));
        let blocked = Trust { blocked: [eu.clone()].into(), ..listed };
        assert_eq!(blocked.admission(&eu), Admission::Blocked, "a block outweighs a place on the list");
    }

    #[test]
    fn a_pattern_fits_whole_hosts() {
        for (pattern, host, fits) in [
            ("*.westeurope.kusto.windows.net", "a.westeurope.kusto.windows.net", true),
            ("*.westeurope.kusto.windows.net", "westeurope.kusto.windows.net", false),
            ("*.kusto.windows.net", "a.kusto.windows.net.evil.example", false),
            ("adx-*-prod.*.windows.net", "adx-eu-prod.kusto.windows.net", true),
            ("adx-*-prod.*.windows.net", "adx-eu-test.kusto.windows.net", false),
            ("a*a", "a", false),
            ("a.b", "a.b", true),
            ("*", "anything", true),
        ] {
            assert_eq!(HostPattern::new(pattern).fits(host), fits, "{pattern} {host}");
        }
    }
}
