//! The way out of this machine as our programs look for it: an issuer of tokens and a proxy in one, which lets nothing out and notes who asked for what. I/O: loopback HTTP.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::IntoResponse,
};
use reqwest::Url;
use serde_json::json;
use tokio::net::TcpListener;

use crate::witness;

/// The token that everyone gets.
pub const TOKEN: &str = "a-token-that-nobody-may-print";

/// A double of what is outside; it answers for as long as the test's runtime.
#[derive(Debug)]
pub struct WayOut {
    /// Its address.
    pub url: String,
    seen: Seen,
}

/// What was asked for, as `METHOD uri`.
type Seen = Arc<Mutex<Vec<String>>>;

impl WayOut {
    /// Begins to watch.
    ///
    /// # Panics
    /// If no loopback port can be had.
    pub async fn watch() -> Self {
        witness::secret(TOKEN);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port can be bound");
        let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
        let seen = Seen::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    /// With these variables a program takes it for the issuer of its managed identity, and for its way out.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.issuer();
        environment.push(("HTTPS_PROXY", self.url.clone()));
        environment
    }

    /// The same for a program that has an API server on this machine: its client there would take the variable above for its own way, too.
    pub fn environment_of_a_pod(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.issuer();
        environment.extend([("ALL_PROXY", self.url.clone()), ("NO_PROXY", "127.0.0.1".to_owned())]);
        environment
    }

    /// With these, for the issuer alone.
    pub fn issuer(&self) -> Vec<(&'static str, String)> {
        vec![("IDENTITY_ENDPOINT", format!("{}/token", self.url)), ("IDENTITY_HEADER", "header".to_owned())]
    }

    /// All that was asked for, in order.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no holder of this lock panics").clone()
    }

    /// The audiences of the tokens that were asked for.
    pub fn audiences(&self) -> BTreeSet<String> {
        let seen = self.seen();
        let asked = seen
            .iter()
            .filter_map(|request| Url::parse(&format!("http://issuer{}", request.strip_prefix("GET ")?)).ok());
        let audience =
            |url: Url| url.query_pairs().find(|(name, _)| name == "resource").map(|(_, value)| value.into_owned());
        asked.map(|url| audience(url).unwrap_or_else(|| "none".to_owned())).collect()
    }

    /// Where somebody wanted to go, as `host:port`.
    pub fn hosts(&self) -> BTreeSet<String> {
        self.seen().iter().filter_map(|request| request.strip_prefix("CONNECT ").map(str::to_owned)).collect()
    }
}

async fn answer(State(seen): State<Seen>, method: Method, uri: Uri) -> impl IntoResponse {
    seen.lock().expect("no holder of this lock panics").push(format!("{method} {uri}"));
    let token = json!({"access_token": TOKEN, "expires_on": "4102444800", "token_type": "Bearer", "resource": "r"});
    let status = if method == Method::GET { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    (status, token.to_string())
}
