//! A client of the double without any opinion of its own.

use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::azure::{AzureDouble, AzureOptions, CLIENT, Durations, SUBSCRIPTION, TENANT};

/// So long that nothing ends while a test runs, unless the clock is put forward.
pub(super) const LONG: Duration = Duration::from_secs(600);

/// Everything takes [`LONG`], and a database shows at once.
pub(super) const SLOW: Durations = Durations {
    create: LONG,
    update: LONG,
    database: LONG,
    register: LONG,
    assignment: LONG,
    visible_after: Duration::ZERO,
    retry_after: Duration::from_secs(7),
    token: Duration::from_secs(24 * 3600),
};

/// Somebody with a token.
pub(super) struct Client {
    http: reqwest::Client,
    pub(super) base: String,
    pub(super) token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Null if it is no JSON.
    pub(super) body: Value,
    pub(super) text: String,
}

impl Answered {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("headers are text"))
    }

    /// Azure's code of an error.
    pub(super) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// Status and code.
    pub(super) fn refusal(&self) -> (u16, &str) {
        (self.status, self.code())
    }
}

/// A double in plain HTTP in which everything takes [`LONG`], and somebody with a token.
pub(super) async fn start() -> (AzureDouble, Client) {
    start_with(AzureOptions { durations: SLOW, plain: true, ..AzureOptions::default() }).await
}

pub(super) async fn start_with(options: AzureOptions) -> (AzureDouble, Client) {
    let double = AzureDouble::start(options).await;
    let mut client = Client::of(&double);
    let answer = client.ask_for_token(&federated(&double)).await;
    client.token = answer.body["access_token"].as_str().map(str::to_owned);
    assert!(client.token.is_some(), "{answer:?}");
    (double, client)
}

/// What a pod with workload identity shows.
pub(super) fn federated(double: &AzureDouble) -> Vec<(&'static str, String)> {
    let assertion = std::fs::read_to_string(variable(&double.workload_identity(), "AZURE_FEDERATED_TOKEN_FILE"));
    vec![
        ("grant_type", "client_credentials".to_owned()),
        ("client_id", CLIENT.to_owned()),
        ("scope", "https://management.azure.com/.default".to_owned()),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()),
        ("client_assertion", assertion.expect("the double wrote it")),
    ]
}

/// One of a list of environment variables.
pub(super) fn variable(environment: &[(&'static str, String)], name: &str) -> String {
    environment.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone()).expect("it is among them")
}

impl Client {
    /// Somebody who has no token yet.
    pub(super) fn of(double: &AzureDouble) -> Self {
        Self { http: reqwest::Client::new(), base: double.url().to_owned(), token: None }
    }

    pub(super) async fn ask_for_token(&self, form: &[(&'static str, String)]) -> Answered {
        self.ask_tenant_for_token(TENANT, form).await
    }

    pub(super) async fn ask_tenant_for_token(&self, tenant: &str, form: &[(&'static str, String)]) -> Answered {
        let form: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self.http.post(format!("{}/{tenant}/oauth2/v2.0/token", self.base)).body(form.join("&"));
        answered(request.send().await.expect("the double answers")).await
    }

    fn request(&self, method: &str, to: &str) -> reqwest::RequestBuilder {
        let is_kusto = to.contains("/Microsoft.Kusto/") && !to.ends_with("/register");
        let version = if is_kusto { "2025-02-14" } else { "2025-04-01" };
        let url = match (to.contains('?'), to.starts_with('/')) {
            (false, _) => format!("{}{to}?api-version={version}", self.base),
            (true, true) => format!("{}{to}", self.base),
            (true, false) => to.to_owned(),
        };
        let request = self.http.request(method.parse::<Method>().expect("a method"), url);
        self.token.iter().fold(request, |request, token| request.bearer_auth(token))
    }

    /// A body that may be of any kind.
    pub(super) async fn send_text(&self, method: &str, to: &str, body: &str, kind: &str) -> Answered {
        let request = self.request(method, to).header("content-type", kind).body(body.to_owned());
        answered(request.send().await.expect("the double answers")).await
    }

    /// To a path, or to a whole URL that an answer named. The version is that of the path unless there is a query.
    pub(super) async fn try_to_send(
        &self,
        method: &str,
        to: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answered, reqwest::Error> {
        let mut request = self.request(method, to);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(answered(request.send().await?).await)
    }

    pub(super) async fn send(&self, method: &str, to: &str, body: Option<&Value>) -> Answered {
        self.try_to_send(method, to, body, &[]).await.expect("the double answers")
    }

    pub(super) async fn get(&self, to: &str) -> Answered {
        self.send("GET", to, None).await
    }

    pub(super) async fn put(&self, to: &str, body: &Value) -> Answered {
        self.send("PUT", to, Some(body)).await
    }

    pub(super) async fn patch(&self, to: &str, body: &Value) -> Answered {
        self.send("PATCH", to, Some(body)).await
    }

    pub(super) async fn post(&self, to: &str) -> Answered {
        self.send("POST", to, None).await
    }
}

async fn answered(answer: reqwest::Response) -> Answered {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap_or_default();
    Answered { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text }
}

/// Below the subscription that there is.
pub(super) fn path(rest: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}{rest}")
}

/// A cluster of the group `fleet`, and what is in it.
pub(super) fn cluster(rest: &str) -> String {
    path(&format!("/resourceGroups/fleet/providers/Microsoft.Kusto/clusters/{rest}"))
}

/// A cluster to be made.
pub(super) fn wanted() -> Value {
    json!({
        "location": "eastus2",
        "sku": {"name": "Standard_L8as_v3", "tier": "Standard", "capacity": 2},
        "identity": {"type": "SystemAssigned"},
        "properties": {"enableStreamingIngest": true},
        "tags": {"owner": "stories"},
    })
}

/// A database to be made.
pub(super) fn wanted_database() -> Value {
    json!({"location": "eastus2", "kind": "ReadWrite", "properties": {"softDeletePeriod": "P30D", "hotCachePeriod": "P7D"}})
}

/// A right to be given.
pub(super) fn wanted_right(principal: &str, role: &str) -> Value {
    json!({"properties": {"principalId": principal, "role": role, "principalType": "App"}})
}

/// A cluster `central` that somebody made, running, with the database `Metrics`.
pub(super) fn with_central(double: &AzureDouble) {
    double.edit(|world| {
        let central = world.add_cluster("fleet", "central", "East US 2");
        central.databases.insert("metrics".to_owned(), crate::azure::Database::ready("Metrics"));
    });
}
