//! Why a condition is as it is: every reason of the operator's own. Each has its line in README.md. Pure.

use std::fmt;

macro_rules! reasons {
    ($($reason:ident,)*) => {
        /// A reason of a condition.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Reason {
            $($reason,)*
        }

        impl Reason {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$reason,)*];

            /// As the condition has it.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($reason),)*
                }
            }
        }
    };
}

reasons! {
    // All is as it should be.
    Existing,
    Federated,
    Planned,
    Provisioned,
    Ready,
    Running,
    // A person has to correct the object, or decided that it is left alone.
    CriteriaNotMet,
    Invalid,
    InvalidCriteria,
    NoDatabases,
    SelectsNothing,
    Suspended,
    // Something else has to be there first.
    AmbiguousIngestor,
    NoAgentImage,
    WaitingForAgent,
    WaitingForCluster,
    WaitingForIngestor,
    // What is made for it.
    ApplyFailed,
    Conflict,
    Immutable,
    Progressing,
    WaitingForDeletion,
    // What its agent tells of the last pass; guards have reasons of the agent's own.
    AgentSilent,
    Failed,
    Held,
    Partial,
    // A cluster in Azure cannot be made from what the object and the operator say.
    DuplicateCluster,
    EndpointRemoved,
    InvalidClusterName,
    InvalidTier,
    NameIsFixed,
    PlaceIsFixed,
    PlaceUnknown,
    ProvisioningDisabled,
    // Azure is at work.
    CreatingCluster,
    CreatingDatabase,
    GrantingRole,
    RegisteringProvider,
    Starting,
    Throttled,
    UpdatingCluster,
    UpdatingDatabase,
    Waiting,
    WaitingForAzure,
    // Azure refuses, or fails.
    AzureFailed,
    AzureUnreachable,
    CreationFailed,
    DisallowedByPolicy,
    Forbidden,
    Locked,
    NameTaken,
    NotFound,
    ProviderNotRegistered,
    QuotaExceeded,
    Refused,
    SignInFailed,
    SkuNotAvailable,
    UnreadableAnswer,
    // What people do in Azure.
    ClusterDeleted,
    DatabaseDeleted,
    Migrated,
    Stopped,
    Stopping,
    Unavailable,
    UntrustedEndpoint,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use shared::runtime::GuardReason;

    use super::*;
    use crate::kubernetes::{conditions::Phase, kinds::reason_of_guard};

    /// Words of Kubernetes that the table names as examples.
    const OF_PODS: [&str; 3] = ["ContainersNotReady", "FailedCreate", "ImagePullBackOff"];

    /// The rows of the table under a heading of README.md.
    fn rows(heading: &str) -> Vec<Vec<String>> {
        let readme = fs::read_to_string("../README.md").unwrap();
        let (_, section) = readme.split_once(heading).unwrap();
        let table = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let rows = table.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split(" | ").map(str::to_owned).collect()).collect()
    }

    /// What a cell says in code and in one word with a capital; paths and values are no reasons.
    fn words(cell: &str) -> impl Iterator<Item = &str> {
        let code = cell.split('`').skip(1).step_by(2);
        code.filter(|code| {
            code.starts_with(|c: char| c.is_ascii_uppercase()) && code.chars().all(|c| c.is_ascii_alphabetic())
        })
    }

    #[test]
    fn readme_explains_every_condition_and_every_reason_and_no_other() {
        let (conditions, azure) = (rows("### Conditions\n"), rows("### When it does not go on\n"));
        let named: BTreeSet<&str> = conditions.iter().flat_map(|row| words(&row[0])).collect();
        assert_eq!(named, Phase::ALL.map(Phase::as_str).into());
        let reasons = conditions.iter().map(|row| &row[1]).chain(azure.iter().map(|row| &row[0]));
        let explained: BTreeSet<&str> = reasons.flat_map(|cell| words(cell)).collect();
        let guards: Vec<String> = GuardReason::ALL.iter().map(|guard| reason_of_guard(guard.as_str())).collect();
        let given = Reason::ALL.iter().map(|reason| reason.as_str()).chain(guards.iter().map(String::as_str));
        let given: BTreeSet<&str> = given.chain(OF_PODS).collect();
        let missing: Vec<_> = given.difference(&explained).collect();
        let unknown: Vec<_> = explained.difference(&given).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "README.md lacks {missing:?}, and explains {unknown:?}");
    }
}
