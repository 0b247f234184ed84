//! How to reach Azure, as whom, and where things go that say nothing of it. No I/O.

use std::{num::NonZeroU32, time::Duration};

use azure_core::http::Url;
use shared::{credential::CredentialConfig, kusto::Cloud};

/// ARM of one cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArmEndpoint {
    /// Such as `https://management.azure.com`.
    pub base: Url,
    /// What a token must be for.
    pub audience: String,
}

impl ArmEndpoint {
    /// The cloud's own. Source: Azure SDK's cloud configurations; `None` for clouds whose addresses are not public.
    pub fn of(cloud: Cloud) -> Option<Self> {
        let (base, audience) = match cloud {
            Cloud::Public => ("https://management.azure.com", "https://management.azure.com"),
            Cloud::UsGovernment => {
                ("https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net")
            }
            Cloud::China => ("https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn"),
            Cloud::UsNational | Cloud::UsSecret | Cloud::France | Cloud::Germany | Cloud::Singapore => return None,
        };
        let base = Url::parse(base).expect("the table's addresses are addresses");
        Some(Self { base, audience: audience.to_owned() })
    }

    /// Another address of ARM, which a person named; its tokens are for itself unless the person said for what.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn other(address: &str, audience: Option<&str>, allow_loopback: bool) -> Result<Self, &'static str> {
        let base = Url::parse(address).map_err(|_| "must be an address such as https://management.azure.com")?;
        let is_loopback = match base.host_str() {
            Some("localhost" | "[::1]") => true,
            // `127.example.com` is a name like any other.
            Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
            None => false,
        };
        let is_plain = base.scheme() == "http" && is_loopback && allow_loopback;
        if base.scheme() != "https" && !is_plain {
            return Err("must begin with https://: a token is sent there");
        }
        let is_bare = base.path() == "/" && base.query().is_none() && base.fragment().is_none();
        if !is_bare || !base.username().is_empty() || base.password().is_some() {
            return Err("must be a scheme and a host, without user name, path, query or fragment");
        }
        let audience = audience.unwrap_or(address).trim_end_matches('/').to_owned();
        Ok(Self { base, audience })
    }
}

/// Where clusters go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The subscription's id.
    pub subscription_id: Option<String>,
    /// The resource group.
    pub resource_group: Option<String>,
    /// The region, such as `eastus2`.
    pub location: Option<String>,
}

/// How the operator works with Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureSettings {
    /// Where ARM is.
    pub endpoint: ArmEndpoint,
    /// Who the operator is there.
    pub credential: CredentialConfig,
    /// For clusters that do not say.
    pub place: Place,
    /// The instance metadata service, which says where this machine is.
    pub imds: Url,
    /// The most requests in a second, on average. ARM refills 10 writes and 25 reads a second for each subscription and identity, which others use too.
    pub requests_per_second: NonZeroU32,
    /// How often a cluster at rest is looked at, and what only a person can mend is tried again.
    pub interval: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_has_its_own_addresses() {
        let shown = |cloud| ArmEndpoint::of(cloud).map(|endpoint| (endpoint.base.to_string(), endpoint.audience));
        let pair = |base: &str, audience: &str| Some((base.to_owned(), audience.to_owned()));
        assert_eq!(shown(Cloud::Public), pair("https://management.azure.com/", "https://management.azure.com"));
        let government = pair("https://management.usgovcloudapi.net/", "https://management.core.usgovcloudapi.net");
        assert_eq!(shown(Cloud::UsGovernment), government);
        let china = pair("https://management.chinacloudapi.cn/", "https://management.core.chinacloudapi.cn");
        assert_eq!(shown(Cloud::China), china);
        assert_eq!(shown(Cloud::UsSecret), None);
    }

    #[test]
    fn no_token_goes_over_plain_http_but_to_a_loopback_address_that_was_allowed() {
        assert!(ArmEndpoint::other("http://127.0.0.1:4010", None, true).is_ok());
        for (address, loopback) in [
            ("http://127.0.0.1:4010", false),
            ("http://management.azure.com", true),
            ("http://127.evil.example.com", true),
            ("management.azure.com", true),
            ("https://user@management.azure.com", true),
            ("https://management.azure.com/x", true),
            ("ftp://127.0.0.1", true),
        ] {
            assert!(ArmEndpoint::other(address, None, loopback).is_err(), "{address}");
        }
        let stack = ArmEndpoint::other("https://management.local.azurestack.external/", Some("https://aud/"), false);
        assert_eq!(stack.unwrap().audience, "https://aud");
    }
}
