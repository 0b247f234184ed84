//! Which hosts may get a token, and a token for what. Both come from tables of ours: an endpoint is a stranger's input, and a server that could name the
//! audience could ask for a token of any service. Pure.
//!
//! Source of the hosts: azure-kusto-go's `well_known_kusto_endpoints.json`. Audiences: `https://kusto.` before the cloud's Kusto suffix, as the SDKs'
//! default and every cloud's metadata have it.

use std::{fmt, str::FromStr};

use kql::endpoint::{ClusterEndpoint, ends_in_a_number};

/// A cloud: its identity provider and what it trusts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Cloud {
    /// Azure's public cloud.
    #[default]
    Public,
    /// Azure US Government.
    UsGovernment,
    /// Azure operated by 21Vianet.
    China,
    /// US national cloud (eaglex).
    UsNational,
    /// US secret cloud (scloud).
    UsSecret,
    /// Sovereign cloud of France.
    France,
    /// Sovereign cloud of Germany.
    Germany,
    /// Sovereign cloud of Singapore.
    Singapore,
}

/// What one cloud trusts.
struct Table {
    name: &'static str,
    audience: &'static str,
    suffixes: &'static [&'static str],
    hosts: &'static [&'static str],
}

impl Cloud {
    /// The audience of a Kusto token.
    pub const fn audience(self) -> &'static str {
        self.table().audience
    }

    /// Whether the host may get a token: one of the cloud's Kusto hosts, or a name under one of its Kusto suffixes.
    pub fn trusts(self, endpoint: &ClusterEndpoint) -> bool {
        let host = endpoint.host();
        let Table { suffixes, hosts, .. } = self.table();
        // Every suffix starts with a dot, so `evilkusto.windows.net` has none of them; and something must precede it.
        hosts.contains(&host) || suffixes.iter().any(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
    }

    const fn table(self) -> &'static Table {
        match self {
            Self::Public => &PUBLIC,
            Self::UsGovernment => &US_GOVERNMENT,
            Self::China => &CHINA,
            Self::UsNational => &US_NATIONAL,
            Self::UsSecret => &US_SECRET,
            Self::France => &FRANCE,
            Self::Germany => &GERMANY,
            Self::Singapore => &SINGAPORE,
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.table().name)
    }
}

/// Whom a process trusts with a token: the Kusto hosts of its cloud, and those under suffixes that a person named when it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTrust {
    /// The cloud, which is the tokens' audience, too.
    pub cloud: Cloud,
    /// More suffixes, such as a private link's or a local emulator's.
    pub suffixes: Vec<TrustedSuffix>,
}

impl HostTrust {
    /// Whether the host may get a token.
    pub fn trusts(&self, endpoint: &ClusterEndpoint) -> bool {
        self.cloud.trusts(endpoint) || self.suffixes.iter().any(|suffix| suffix.covers(endpoint.host()))
    }
}

impl From<Cloud> for HostTrust {
    fn from(cloud: Cloud) -> Self {
        Self { cloud, suffixes: Vec::new() }
    }
}

/// `.kusto.example.com`: names under it are trusted, it itself is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedSuffix(String);

impl TrustedSuffix {
    fn covers(&self, host: &str) -> bool {
        host.len() > self.0.len() && host.ends_with(&self.0)
    }
}

impl fmt::Display for TrustedSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustedSuffix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let suffix = text.to_ascii_lowercase();
        let labels: Vec<&str> = suffix.split('.').collect();
        let is_label = |label: &&str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match labels.as_slice() {
            // One label alone would be a whole top-level domain.
            ["", names @ ..] if names.len() >= 2 && names.iter().all(is_label) && !ends_in_a_number(&suffix) => {
                Ok(Self(suffix))
            }
            _ => Err("must be a dot and a domain of two names or more, such as .kusto.example.com"),
        }
    }
}

static PUBLIC: Table = Table {
    name: "public",
    audience: "https://kusto.kusto.windows.net",
    suffixes: &[
        ".dxp.aad.azure.com",
        ".dxp-dev.aad.azure.com",
        ".kusto.azuresynapse.net",
        ".kusto.windows.net",
        ".kustodev.azuresynapse-dogfood.net",
        ".kustodev.windows.net",
        ".kustomfa.windows.net",
        ".playfabapi.com",
        ".playfab.com",
        ".azureplayfab.com",
        ".kusto.data.microsoft.com",
        ".kusto.fabric.microsoft.com",
        ".api.securityplatform.microsoft.com",
        ".securitycenter.windows.com",
        ".arg-int.core.windows.net",
        ".arg-df.core.windows.net",
        ".arg.core.windows.net",
    ],
    hosts: &[
        "ade.applicationinsights.io",
        "ade.loganalytics.io",
        "adx.aimon.applicationinsights.azure.com",
        "adx.applicationinsights.azure.com",
        "adx.int.applicationinsights.azure.com",
        "adx.int.loganalytics.azure.com",
        "adx.int.monitor.azure.com",
        "adx.loganalytics.azure.com",
        "adx.monitor.azure.com",
        "kusto.aria.microsoft.com",
        "eu.kusto.aria.microsoft.com",
    ],
};

static US_GOVERNMENT: Table = Table {
    name: "us-government",
    audience: "https://kusto.kusto.usgovcloudapi.net",
    suffixes: &[".kusto.usgovcloudapi.net", ".kustomfa.usgovcloudapi.net", ".arg.core.usgovcloudapi.net"],
    hosts: &["adx.applicationinsights.azure.us", "adx.loganalytics.azure.us", "adx.monitor.azure.us"],
};

static CHINA: Table = Table {
    name: "china",
    audience: "https://kusto.kusto.chinacloudapi.cn",
    suffixes: &[
        ".kusto.azuresynapse.azure.cn",
        ".kusto.chinacloudapi.cn",
        ".kustomfa.chinacloudapi.cn",
        ".playfab.cn",
        ".arg.core.chinacloudapi.cn",
    ],
    hosts: &["adx.applicationinsights.azure.cn", "adx.loganalytics.azure.cn", "adx.monitor.azure.cn"],
};

static US_NATIONAL: Table = Table {
    name: "us-national",
    audience: "https://kusto.kusto.core.eaglex.ic.gov",
    suffixes: &[".kusto.core.eaglex.ic.gov", ".kustomfa.core.eaglex.ic.gov", ".arg.core.eaglex.ic.gov"],
    hosts: &[
        "adx.applicationinsights.azure.eaglex.ic.gov",
        "adx.loganalytics.azure.eaglex.ic.gov",
        "adx.monitor.azure.eaglex.ic.gov",
    ],
};

static US_SECRET: Table = Table {
    name: "us-secret",
    audience: "https://kusto.kusto.core.microsoft.scloud",
    suffixes: &[".kusto.core.microsoft.scloud", ".kustomfa.core.microsoft.scloud", ".arg.core.microsoft.scloud"],
    hosts: &[
        "adx.applicationinsights.azure.microsoft.scloud",
        "adx.loganalytics.azure.microsoft.scloud",
        "adx.monitor.azure.microsoft.scloud",
    ],
};

static FRANCE: Table = Table {
    name: "france",
    audience: "https://kusto.kusto.sovcloud-api.fr",
    suffixes: &[".kusto.sovcloud-api.fr", ".kustomfa.sovcloud-api.fr"],
    hosts: &["adx.applicationinsights.azure.fr", "adx.loganalytics.azure.fr", "adx.monitor.azure.fr"],
};

static GERMANY: Table = Table {
    name: "germany",
    audience: "https://kusto.kusto.sovcloud-api.de",
    suffixes: &[".kusto.sovcloud-api.de", ".kustomfa.sovcloud-api.de"],
    hosts: &["adx.applicationinsights.azure.de", "adx.loganalytics.azure.de", "adx.monitor.azure.de"],
};

static SINGAPORE: Table = Table {
    name: "singapore",
    audience: "https://kusto.kusto.sovcloud-api.sg",
    suffixes: &[".kusto.sovcloud-api.sg", ".kustomfa.sovcloud-api.sg"],
    hosts: &["adx.applicationinsights.azure.sg", "adx.loganalytics.azure.sg", "adx.monitor.azure.sg"],
};

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(cloud: Cloud, text: &str) -> bool {
        ClusterEndpoint::parse(text).is_ok_and(|endpoint| cloud.trusts(&endpoint))
    }

    #[test]
    fn kusto_hosts_of_the_configured_cloud_are_trusted() {
        for text in [
            "https://help.kusto.windows.net",
            "https://Help.WestEurope.Kusto.Windows.NET/",
            "https://x.z5.kusto.fabric.microsoft.com",
            "https://ade.loganalytics.io",
        ] {
            assert!(trusted(Cloud::Public, text), "{text}");
        }
        assert!(trusted(Cloud::UsGovernment, "https://x.kusto.usgovcloudapi.net"));
        assert!(trusted(Cloud::China, "https://x.kusto.chinacloudapi.cn"));
        assert!(!trusted(Cloud::China, "https://x.kusto.windows.net"));
        assert!(!trusted(Cloud::Public, "https://x.kusto.chinacloudapi.cn"));
    }

    #[test]
    fn look_alikes_are_not_trusted() {
        for text in [
            "https://kusto.windows.net",
            "https://evilkusto.windows.net",
            "https://x.evilkusto.windows.net",
            "https://x.kusto.windows.net.evil.example",
            "https://x.kusto.windows.net@evil.example",
            "https://evil.example/x.kusto.windows.net",
            "https://evil.example#.kusto.windows.net",
            "https://evil.example?.kusto.windows.net",
            "https://evil.example\\.kusto.windows.net",
            "https://x.kusto.windows.net:8443",
            "http://x.kusto.windows.net",
            "https://x.kusto.windows.net.",
            "https://x.kusto-windows.net",
            "https://x.ade.loganalytics.io",
            "https://x.kustо.windows.net",
            "https://169.254.169.254",
            "https://localhost",
        ] {
            assert!(!trusted(Cloud::Public, text), "{text}");
        }
    }

    #[test]
    fn suffixes_of_a_persons_own_are_trusted_beside_the_clouds() {
        let trust = HostTrust { cloud: Cloud::Public, suffixes: vec![".Kusto.example.com".parse().unwrap()] };
        let trusts = |text: &str| trust.trusts(&ClusterEndpoint::parse(text).unwrap());
        assert!(trusts("https://a.kusto.example.com") && trusts("https://a.kusto.windows.net"));
        for other in
            ["https://kusto.example.com", "https://akusto.example.com", "https://a.kusto.example.com.evil.example"]
        {
            assert!(!trusts(other), "{other}");
        }
        for wrong in ["", ".", ".com", "kusto.example.com", ".a..b", ".-a.b", ".a.b/", ".a b.c", ".", ".0.1", ".a.0x1"]
        {
            assert!(wrong.parse::<TrustedSuffix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_cloud_has_an_audience_of_its_own() {
        use clap::ValueEnum as _;
        let expected = [
            (Cloud::Public, "https://kusto.kusto.windows.net"),
            (Cloud::UsGovernment, "https://kusto.kusto.usgovcloudapi.net"),
            (Cloud::China, "https://kusto.kusto.chinacloudapi.cn"),
            (Cloud::UsNational, "https://kusto.kusto.core.eaglex.ic.gov"),
            (Cloud::UsSecret, "https://kusto.kusto.core.microsoft.scloud"),
            (Cloud::France, "https://kusto.kusto.sovcloud-api.fr"),
            (Cloud::Germany, "https://kusto.kusto.sovcloud-api.de"),
            (Cloud::Singapore, "https://kusto.kusto.sovcloud-api.sg"),
        ];
        let audiences: Vec<_> = Cloud::value_variants().iter().map(|cloud| (*cloud, cloud.audience())).collect();
        assert_eq!(audiences, expected);
    }

    #[test]
    fn every_suffix_starts_with_a_dot_and_every_audience_is_trusted_by_its_cloud() {
        use clap::ValueEnum as _;
        for cloud in Cloud::value_variants() {
            assert!(cloud.table().suffixes.iter().all(|suffix| suffix.starts_with('.')));
            assert!(trusted(*cloud, cloud.audience()), "{cloud}");
            assert_eq!(cloud.to_possible_value().unwrap().get_name(), cloud.to_string());
        }
    }
}
