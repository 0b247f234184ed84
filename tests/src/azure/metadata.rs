//! The routers: Azure Resource Manager and Entra on one port, the instance's metadata and managed-identity tokens on the other. I/O: loopback HTTP; started by the
//! double.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, State},
    http::{HeaderMap, Method, Uri},
    response::Response,
    routing::get,
};
use serde_json::{Value, json};

use super::{
    answer::Answer,
    exchange::{Core, Reply, Request, query_of},
    world::SUBSCRIPTION,
};
use crate::listener::Cut;

/// What the instance metadata service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imds {
    /// Where this machine is.
    Answers {
        /// The machine's subscription.
        subscription_id: String,
        /// The machine's resource group; on AKS that of the nodes.
        resource_group: String,
        /// For example `eastus2`.
        location: String,
    },
    /// 503.
    Down,
    /// 404, as of something else that listens there.
    Absent,
}

impl Default for Imds {
    /// A node of AKS in East US 2.
    fn default() -> Self {
        Self::Answers {
            subscription_id: SUBSCRIPTION.to_owned(),
            resource_group: "MC_fleet_aks_eastus2".to_owned(),
            location: "eastus2".to_owned(),
        }
    }
}

/// Azure Resource Manager, and Entra as the authority of tokens.
pub(super) fn azure(core: Arc<Core>) -> Router {
    Router::new().fallback(arm).with_state(core)
}

/// The instance's own endpoints.
pub(super) fn instance(core: Arc<Core>) -> Router {
    Router::new().route("/msi/token", get(managed_token)).route("/metadata/instance", get(metadata)).with_state(core)
}

async fn arm(
    State(core): State<Arc<Core>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path();
    if let Some(tenant) = path.strip_suffix("/oauth2/v2.0/token").filter(|_| method == Method::POST) {
        let form = query_of(&String::from_utf8_lossy(&body));
        let mut state = core.state();
        let now = state.world.now;
        let (status, body) = state.tokens.workload(tenant.trim_start_matches('/'), &form, now);
        return response(status, Some(&body), &[]);
    }
    if let Some(tenant) = path.strip_suffix("/v2.0/.well-known/openid-configuration") {
        let tenant = format!("{}{tenant}", core.settings.base);
        let body = json!({
            "issuer": format!("{tenant}/v2.0"),
            "authorization_endpoint": format!("{tenant}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{tenant}/oauth2/v2.0/token"),
        });
        return response(200, Some(&body), &[]);
    }
    let request = Request {
        method: method.to_string(),
        path: path.to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers,
        body: body.to_vec(),
    };
    // What has arrived takes effect, even if whoever sent it does not wait for the answer.
    let reply = tokio::spawn(async move { core.exchange(request).await }).await;
    match reply.unwrap_or(Reply::Cut) {
        Reply::Answer(Answer { status, headers, body, .. }) => response(status, body.as_deref(), &headers),
        Reply::Html(status) => {
            let page = "<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>Something went wrong on the way.</h1></body></html>";
            build(status, "text/html", Body::from(page), &[])
        }
        Reply::Cut => {
            cut.now();
            response(503, None, &[])
        }
    }
}

async fn managed_token(State(core): State<Arc<Core>>, uri: Uri, headers: HeaderMap) -> Response {
    let query = query_of(uri.query().unwrap_or_default());
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let header = headers.get("x-identity-header").and_then(|value| value.to_str().ok());
    let mut state = core.state();
    let now = state.world.now;
    let (status, body) = state.tokens.managed(&query, header, now, wall);
    response(status, Some(&body), &[])
}

async fn metadata(State(core): State<Arc<Core>>, uri: Uri, headers: HeaderMap) -> Response {
    let query = query_of(uri.query().unwrap_or_default());
    let imds = core.state().imds.clone();
    let refused = |status: u16, text: &str| response(status, Some(&json!({"error": text})), &[]);
    match imds {
        Imds::Down => refused(503, "Service unavailable"),
        Imds::Absent => refused(404, "Not found"),
        Imds::Answers { .. } if headers.get("metadata").is_none_or(|value| value != "true") => {
            refused(400, "Bad request. Required metadata header not specified")
        }
        Imds::Answers { .. } if query.get("api-version").is_none_or(|version| version != "2021-02-01") => {
            refused(400, "Bad request. api-version is invalid or was not specified in the request.")
        }
        Imds::Answers { subscription_id, resource_group, location } => {
            let compute = json!({
                "azEnvironment": "AzurePublicCloud", "location": location, "name": "aks-nodepool1-0", "osType": "Linux", "resourceGroupName": resource_group,
                "subscriptionId": subscription_id, "vmSize": "Standard_D4s_v5", "zone": "1",
            });
            response(200, Some(&json!({"compute": compute, "network": {"interface": []}})), &[])
        }
    }
}

fn response(status: u16, body: Option<&Value>, headers: &[(&'static str, String)]) -> Response {
    let text = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    build(status, if body.is_some() { "application/json; charset=utf-8" } else { "" }, text, headers)
}

fn build(status: u16, kind: &str, body: Body, headers: &[(&'static str, String)]) -> Response {
    let mut response = Response::builder().status(status);
    if !kind.is_empty() {
        response = response.header("content-type", kind);
    }
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(body).expect("statuses and headers are valid")
}
