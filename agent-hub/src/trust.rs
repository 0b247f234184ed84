//! Which partitions the hub federates, by its owner's word: an allow-list, a pattern, a block-list; and those whose check failed. Pure.
//!
//! That an endpoint is a Kusto cluster of the hub's cloud at all is checked before, where beats are read.

use std::collections::{BTreeMap, BTreeSet};

use kql::endpoint::ClusterEndpoint;

use crate::fleet::Beat;

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
    /// Whether the document names nobody, so that all that beat are let in.
    pub const fn is_open(&self) -> bool {
        self.allowed.is_none() && self.pattern.is_none()
    }

    /// What is to become of a partition that beats.
    pub fn admission(&self, endpoint: &ClusterEndpoint) -> Admission {
        if self.blocked.contains(endpoint) {
            return Admission::Blocked;
        }
        let is_listed = self.allowed.as_ref().is_some_and(|allowed| allowed.contains(endpoint));
        let fits = self.pattern.as_ref().is_some_and(|pattern| pattern.fits(endpoint.host()));
        if !(is_listed || fits || self.is_open()) {
            let why = "it is neither listed in allowedPartitions nor does allowedPartitionPattern fit it";
            return Admission::Refused(why.to_owned());
        }
        match self.failed_canaries.get(endpoint) {
            Some(error) => Admission::Refused(format!("its canary query failed: {error}")),
            None => Admission::Admitted,
        }
    }
}

/// The most partitions off the list that are looked at one by one: anyone who may write heartbeats may make up endpoints, and each would be remembered.
const MAX_STRANGERS: usize = 1000;

/// Leaves out what is beyond [`MAX_STRANGERS`], and says how many that are. `members`: who is federated now stays, whatever is thought of it.
pub fn without_crowd(beats: Vec<Beat>, members: &BTreeSet<ClusterEndpoint>, trust: &Trust) -> (Vec<Beat>, usize) {
    let (mut strangers, before) = (0, beats.len());
    let is_looked_at = |beat: &Beat| {
        let is_stranger =
            !members.contains(&beat.endpoint) && matches!(trust.admission(&beat.endpoint), Admission::Refused(_));
        strangers += usize::from(is_stranger);
        !is_stranger || strangers <= MAX_STRANGERS
    };
    let beats: Vec<Beat> = beats.into_iter().filter(is_looked_at).collect();
    let left_out = before - beats.len();
    (beats, left_out)
}

/// A host name with `*` for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// Hosts have no case.
    pub fn new(pattern: &str) -> Self {
        Self(pattern.to_ascii_lowercase())
    }

    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
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
        assert!(Trust::default().is_open());
        assert_eq!(Trust::default().admission(&eu), Admission::Admitted);
        let meant = Trust { pattern: Some(HostPattern::new("*")), ..Trust::default() };
        assert_eq!((meant.is_open(), meant.admission(&eu)), (false, Admission::Admitted));
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
    fn of_a_crowd_of_strangers_some_are_looked_at_and_all_who_are_listed_or_federated() {
        let crowd = (0..MAX_STRANGERS + 5).map(|number| endpoint(&format!("a{number}.kusto.windows.net")));
        let (listed, member) = (endpoint("z.kusto.windows.net"), endpoint("y.kusto.windows.net"));
        let beats = crowd.chain([listed.clone(), member.clone()]).map(Beat::forgotten).collect();
        let trust = Trust { allowed: Some([listed.clone()].into()), ..Trust::default() };
        let (looked_at, left_out) = without_crowd(beats, &[member.clone()].into(), &trust);
        assert_eq!((looked_at.len(), left_out), (MAX_STRANGERS + 2, 5));
        assert!([listed, member].iter().all(|known| looked_at.iter().any(|beat| beat.endpoint == *known)));
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
