//! The address of a cluster in one canonical form, so that equal clusters are equal values. Says nothing about trust: that is decided where the client is
//! built. No I/O.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    literal,
    secrets::{shown, without_secrets},
};

/// `https://host` in lower case without a trailing slash; or, for loopback only, `http[s]://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterEndpoint {
    text: Arc<str>,
    loopback: bool,
}

/// Why a text is not the endpoint of a cluster. The message names the value and the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a cluster endpoint: {rule}")]
pub struct EndpointError {
    value: Refused,
    /// What it breaks.
    pub rule: &'static str,
}

/// A refused text as it was given. It may be none of an address, such as a whole connection string; and most are never told, so only who tells one pays for looking through it.
#[derive(Clone, PartialEq, Eq)]
struct Refused(String);

impl fmt::Debug for Refused {
    /// Without secrets, escaped and cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&shown(&without_secrets(&self.0), 128), f)
    }
}

impl ClusterEndpoint {
    /// Parses an endpoint. A trailing slash and upper case are folded; everything else that is not exactly scheme and host is refused.
    ///
    /// # Errors
    /// For any other scheme, userinfo, path, query, fragment, an IP address, a port, a host that is not a DNS name; loopback (`localhost`, `127.0.0.0/8`,
    /// `[::1]`) may have a port and plain http.
    pub fn parse(value: &str) -> Result<Self, EndpointError> {
        let refuse = |rule| Err(EndpointError { value: Refused(value.to_owned()), rule });
        let folded = value.to_ascii_lowercase();
        let (secure, rest) = match (folded.strip_prefix("https://"), folded.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return refuse("it must start with https://"),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('@') {
            return refuse("it must not hold a user name");
        }
        if authority.contains(['/', '?', '#', '\\']) {
            return refuse("it must be scheme and host only, without path, query or fragment");
        }
        let (host, port) = match split_port(authority) {
            Ok(parts) => parts,
            Err(rule) => return refuse(rule),
        };
        let loopback = is_loopback(host);
        if !loopback {
            if !secure {
                return refuse("plain http is accepted for loopback addresses only");
            }
            if port.is_some() {
                return refuse("a port is accepted for loopback addresses only");
            }
            if host.starts_with('[') || ends_in_a_number(host) {
                return refuse("the host must be a DNS name, not an IP address");
            }
            if let Some(rule) = broken_dns_rule(host) {
                return refuse(rule);
            }
        }
        let scheme = if secure { "https" } else { "http" };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self { text: format!("{scheme}://{host}{port}").into(), loopback })
    }

    /// The canonical text, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme and port stripped: what trust in suffixes is decided on.
    pub fn host(&self) -> &str {
        let authority = self.text.split_once("://").map_or(&*self.text, |(_, authority)| authority);
        split_port(authority).map_or(authority, |(host, _)| host)
    }

    /// Whether it names this machine: asked without a token.
    pub const fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// `cluster('https://host')`, as entity groups and queries name it.
    pub fn cluster_call(&self) -> String {
        format!("cluster({})", literal::string(&self.text))
    }
}

/// Host and port of an authority; brackets stay around an IPv6 address.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match authority.rfind(']') {
        Some(end) => match &authority[end + 1..] {
            "" => (authority, None),
            port => (&authority[..=end], Some(port.strip_prefix(':').ok_or("what follows ']' must be a port")?)),
        },
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    match port {
        None => Ok((host, None)),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            port.parse().map(|port| (host, Some(port))).map_err(|_| "the port must be 0 to 65535")
        }
        Some(_) => Err("the port must be a number"),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a URL's host of this form is an IPv4 address, also one with fewer numbers than four or with hexadecimal ones (WHATWG URL, "ends in a number"): no top-level domain is a number.
pub fn ends_in_a_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
        || last.to_ascii_lowercase().strip_prefix("0x").is_some_and(is_hexadecimal)
}

fn broken_dns_rule(host: &str) -> Option<&'static str> {
    if host.is_empty() {
        return Some("the host is missing");
    }
    if host.len() > 253 {
        return Some("the host must have at most 253 characters");
    }
    if host.ends_with('.') {
        return Some("the host must not end with a dot");
    }
    if !host.contains('.') {
        return Some("the host must be a full DNS name, such as mycluster.westeurope.kusto.windows.net");
    }
    for label in host.split('.') {
        let letters = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if label.is_empty() || label.len() > 63 || !letters || label.starts_with('-') || label.ends_with('-') {
            return Some("every label of the host must be 1 to 63 ASCII letters, digits and inner hyphens");
        }
        if label.starts_with("xn--") {
            return Some("an internationalised (punycode) host is not accepted");
        }
    }
    None
}

impl fmt::Display for ClusterEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ClusterEndpoint {
    type Err = EndpointError;

    fn from_str(value: &str) -> Result<Self, EndpointError> {
        Self::parse(value)
    }
}

impl Serialize for ClusterEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for ClusterEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_cluster_are_equal() {
        for text in ["https://X.kusto.windows.net", "https://x.kusto.windows.net/", "HTTPS://x.KUSTO.windows.net"] {
            assert_eq!(ClusterEndpoint::parse(text).unwrap().as_str(), "https://x.kusto.windows.net");
        }
    }

    #[test]
    fn loopback_may_have_a_port_and_plain_http() {
        for text in ["http://127.0.0.1:8080", "http://localhost:1", "https://[::1]:5", "http://127.9.9.9"] {
            let endpoint = ClusterEndpoint::parse(text).unwrap();
            assert!(endpoint.is_loopback(), "{text}");
            assert_eq!(endpoint.as_str(), text);
        }
        assert_eq!(ClusterEndpoint::parse("http://[::1]:5").unwrap().host(), "[::1]");
        assert_eq!(ClusterEndpoint::parse("http://127.0.0.1:8080").unwrap().host(), "127.0.0.1");
    }

    #[test]
    fn a_refused_endpoint_is_shown_without_user_and_query() {
        for (text, shown) in [
            ("https://x.kusto.windows.net/db", "https://x.kusto.windows.net/db"),
            ("https://me:hunter2@x.kusto.windows.net", "https://…@x.kusto.windows.net"),
            ("https://me:hunt@er2@x.kusto.windows.net/?a=hunter2", "https://…@x.kusto.windows.net/?…"),
            ("https://me:hunt/er2@x.kusto.windows.net", "https://…@x.kusto.windows.net"),
            ("https://me:hunt?er2@x.kusto.windows.net", "https://…"),
            ("https://x.kusto.windows.net?sig=hunter2", "https://x.kusto.windows.net?…"),
            ("https://x.kusto.windows.net#hunter2", "https://x.kusto.windows.net#…"),
            ("https://x.blob.core.windows.net/c;hunter2", "https://x.blob.core.windows.net/c;…"),
            ("https://x.kusto.windows.net/?", "https://x.kusto.windows.net/?"),
            ("me:hunter2@x", "…@x"),
            ("AppKey=hunter2", "AppKey=…"),
            ("Password=hunt@er2", "…"),
            (
                "password=hunter2 data source=https://x.kusto.windows.net",
                "password=… data source=https://x.kusto.windows.net",
            ),
            ("https://x.kusto.windows.net Password=hunt@er2", "https://…"),
            ("me:hunter2@a.example, https://b.example", "…@a.example, https://b.example"),
            ("https://me:hunt 'er2@x.kusto.windows.net", "https://…@x.kusto.windows.net"),
        ] {
            let error = ClusterEndpoint::parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("{shown:?} is not a cluster endpoint: {}", error.rule));
            assert!(!format!("{error:?}").contains("hunt"), "{error:?}");
        }
    }

    #[test]
    fn a_refused_endpoint_is_looked_through_only_when_it_is_told() {
        for text in ["Password=hunter2".to_owned(), format!("https://me:hunter2@{}", "x".repeat(1_000_000))] {
            let error = ClusterEndpoint::parse(&text).unwrap_err();
            assert_eq!(error.value.0, text);
            assert!(!error.to_string().contains("hunter2") && error.to_string().len() < 512, "{error}");
        }
    }

    #[test]
    fn everything_but_scheme_and_host_is_refused_with_its_rule() {
        for (text, rule) in [
            ("x.kusto.windows.net", "it must start with https://"),
            ("ftp://x.kusto.windows.net", "it must start with https://"),
            ("http://x.kusto.windows.net", "plain http is accepted for loopback addresses only"),
            ("https://x.kusto.windows.net:443", "a port is accepted for loopback addresses only"),
            ("https://x.kusto.windows.net@evil.example", "it must not hold a user name"),
            ("https://x.kusto.windows.net/db", "it must be scheme and host only, without path, query or fragment"),
            ("https://x.kusto.windows.net?a", "it must be scheme and host only, without path, query or fragment"),
            ("https://x.kusto.windows.net#a", "it must be scheme and host only, without path, query or fragment"),
            (
                "https://evil.example\\.kusto.windows.net",
                "it must be scheme and host only, without path, query or fragment",
            ),
            ("https://10.0.0.1", "the host must be a DNS name, not an IP address"),
            ("https://10.1", "the host must be a DNS name, not an IP address"),
            ("https://127.1", "the host must be a DNS name, not an IP address"),
            ("https://2130706433", "the host must be a DNS name, not an IP address"),
            ("https://0x7f.0.0.0x1", "the host must be a DNS name, not an IP address"),
            ("https://a.kusto.0X", "the host must be a DNS name, not an IP address"),
            ("https://[fe80::1]", "the host must be a DNS name, not an IP address"),
            ("https://x.kusto.windows.net.", "the host must not end with a dot"),
            ("https://kusto", "the host must be a full DNS name, such as mycluster.westeurope.kusto.windows.net"),
            ("https://xn--ksto-0ra.windows.net", "an internationalised (punycode) host is not accepted"),
            (
                "https://küsto.windows.net",
                "every label of the host must be 1 to 63 ASCII letters, digits and inner hyphens",
            ),
            (
                "https://a b.windows.net",
                "every label of the host must be 1 to 63 ASCII letters, digits and inner hyphens",
            ),
            (
                "https://a').database('x",
                "every label of the host must be 1 to 63 ASCII letters, digits and inner hyphens",
            ),
            ("https://localhost.evil.example:80", "a port is accepted for loopback addresses only"),
            ("https://", "the host is missing"),
            ("http://127.0.0.1:x", "the port must be a number"),
            ("http://127.0.0.1:99999", "the port must be 0 to 65535"),
        ] {
            assert_eq!(ClusterEndpoint::parse(text).unwrap_err().rule, rule, "{text}");
        }
    }
}
