//! Who gets a token, and whose token is good: Entra's token endpoint for workload identity, and the managed-identity endpoint of App Service. No I/O; called by the
//! exchange for every request, and by the routers for requests for tokens.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{CLIENT, TENANT};
use crate::witness;

/// Audiences that Azure Resource Manager takes.
const AUDIENCES: [&str; 6] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://management.usgovcloudapi.net",
    "https://management.core.usgovcloudapi.net",
    "https://management.chinacloudapi.cn",
    "https://management.core.chinacloudapi.cn",
];

/// The issuers' state.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Audience and end, by the double's clock.
    issued: BTreeMap<String, (String, Duration)>,
    /// The federated token that is taken now.
    pub(super) assertion: String,
    /// What a request for a managed identity's token has to show.
    pub(super) header: String,
    pub(super) life: Duration,
    pub(super) is_down: bool,
    pub(super) asked: usize,
    /// Our own addresses are audiences too.
    pub(super) own: Vec<String>,
}

/// What is wrong with a request's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Missing,
    Unknown,
    WrongAudience,
    Expired,
}

impl Tokens {
    pub(super) fn new(life: Duration, own: Vec<String>) -> Self {
        let mut tokens = Self {
            issued: BTreeMap::new(),
            assertion: String::new(),
            header: secret("header"),
            life,
            is_down: false,
            asked: 0,
            own,
        };
        tokens.rotate();
        tokens
    }

    /// A new federated token; the one before is refused.
    pub(super) fn rotate(&mut self) {
        self.assertion = secret("assertion");
    }

    fn issue(&mut self, audience: &str, now: Duration) -> String {
        let token = secret("token");
        let audience = audience.trim_end_matches("/.default").trim_end_matches('/').to_owned();
        self.issued.insert(token.clone(), (audience, now + self.life));
        token
    }

    /// Status and body for a form that shows a federated token.
    pub(super) fn workload(&mut self, tenant: &str, form: &BTreeMap<String, String>, now: Duration) -> (u16, Value) {
        self.asked += 1;
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let refused = |error: &str, code: u64, text: &str| {
            let text = format!("AADSTS{code}: {text} Trace ID: {}", Uuid::new_v4());
            (400, json!({"error": error, "error_description": text, "error_codes": [code]}))
        };
        if self.is_down {
            return (
                503,
                json!({"error": "temporarily_unavailable", "error_description": "AADSTS90033: A transient error has occurred. Please try again."}),
            );
        }
        if tenant != TENANT {
            return refused("invalid_request", 90002, &format!("Tenant '{tenant}' not found."));
        }
        if field("grant_type") != "client_credentials" {
            return refused("unsupported_grant_type", 70003, "The app requested an unsupported grant type.");
        }
        if field("client_id") != CLIENT {
            return refused("unauthorized_client", 700_016, "The application was not found in the directory.");
        }
        if !field("scope").ends_with("/.default") {
            return refused("invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid.");
        }
        if field("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            || field("client_assertion") != self.assertion
        {
            return refused("invalid_client", 700_024, "Client assertion is not within its valid time range.");
        }
        let seconds = self.life.as_secs();
        let token = self.issue(field("scope"), now);
        (200, json!({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}))
    }

    /// Status and body for a managed identity. `expires_on` is in the client's own time.
    pub(super) fn managed(
        &mut self,
        query: &BTreeMap<String, String>,
        header: Option<&str>,
        now: Duration,
        wall: u64,
    ) -> (u16, Value) {
        self.asked += 1;
        let refused = |status: u16, text: &str| (status, json!({"statusCode": status, "message": text}));
        if self.is_down {
            return refused(503, "The identity service is not available.");
        }
        if header != Some(self.header.as_str()) {
            return refused(401, "The header X-IDENTITY-HEADER is missing or wrong.");
        }
        if query.get("api-version").is_none_or(|version| version != "2019-08-01") {
            return refused(400, "The api-version is not 2019-08-01.");
        }
        let Some(resource) = query.get("resource").filter(|resource| !resource.is_empty()) else {
            return refused(400, "There is no resource.");
        };
        if query.get("client_id").is_some_and(|client| client != CLIENT) {
            return refused(400, "No managed identity was found for the given client id.");
        }
        let token = self.issue(resource, now);
        let until = wall + self.life.as_secs();
        (
            200,
            json!({"access_token": token, "expires_on": until.to_string(), "token_type": "Bearer", "resource": resource, "client_id": CLIENT}),
        )
    }

    /// Whether a request may pass.
    pub(super) fn check(&self, authorization: Option<&str>, now: Duration) -> Result<(), Refusal> {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer ")).ok_or(Refusal::Missing)?;
        let (audience, until) = self.issued.get(token).ok_or(Refusal::Unknown)?;
        let is_ours = AUDIENCES.contains(&audience.as_str()) || self.own.contains(audience);
        match (is_ours, *until > now) {
            (false, _) => Err(Refusal::WrongAudience),
            (true, false) => Err(Refusal::Expired),
            (true, true) => Ok(()),
        }
    }
}

/// A text that nobody may print.
fn secret(kind: &str) -> String {
    let text = format!("azure-double-{kind}-{}", Uuid::new_v4().simple());
    witness::secret(&text);
    text
}
