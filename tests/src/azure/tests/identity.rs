//! Tokens of both kinds, TLS, and the instance's metadata.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use super::support::{Client, SLOW, federated, path, start, start_with, variable};
use crate::azure::{AzureOptions, Imds, SUBSCRIPTION, TENANT};

#[tokio::test]
async fn only_who_trusts_its_authority_talks_to_it() {
    let double = crate::azure::AzureDouble::start(AzureOptions::default()).await;
    let url = format!("{}/{TENANT}/v2.0/.well-known/openid-configuration", double.url());
    let authority = fs::read(double.ca_file()).expect("the double wrote it");
    let authority = reqwest::Certificate::from_pem(&authority).expect("it is a certificate");
    let trusting = reqwest::Client::builder().tls_certs_only([authority]).build().expect("the client can be built");
    let document: Value = trusting.get(&url).send().await.expect("it answers").json().await.expect("it is JSON");
    assert_eq!(document["token_endpoint"], format!("{}/{TENANT}/oauth2/v2.0/token", double.url()));
    assert!(reqwest::Client::new().get(&url).send().await.is_err());
    double.assert_fine();
}

#[tokio::test]
async fn a_federated_token_that_is_not_right_gets_no_token() {
    let (double, client) = start().await;
    let good = federated(&double);
    let but = |name: &str, value: &str| {
        let mut form = good.clone();
        form.iter_mut().filter(|(other, _)| *other == name).for_each(|(_, found)| value.clone_into(found));
        form
    };
    for (tenant, form, status, error) in [
        (TENANT, good.clone(), 200, Value::Null),
        ("somewhere", good.clone(), 400, json!("invalid_request")),
        (TENANT, but("grant_type", "password"), 400, json!("unsupported_grant_type")),
        (TENANT, but("client_id", "somebody"), 400, json!("unauthorized_client")),
        (TENANT, but("scope", "https://management.azure.com"), 400, json!("invalid_scope")),
        (TENANT, but("client_assertion_type", "jwt"), 400, json!("invalid_client")),
        (TENANT, but("client_assertion", "forged"), 400, json!("invalid_client")),
    ] {
        let answer = client.ask_tenant_for_token(tenant, &form).await;
        assert_eq!((answer.status, &answer.body["error"]), (status, &error), "{form:?}");
        assert_eq!(answer.body["access_token"].is_string(), status == 200);
    }
    assert_eq!(double.token_requests(), 8);
    double.rotate_federated_token();
    assert_eq!(client.ask_for_token(&good).await.body["error"], "invalid_client");
    assert_eq!(client.ask_for_token(&federated(&double)).await.status, 200);
    assert_eq!(client.get(&path("")).await.status, 200, "tokens outlive what they were issued for");
    double.assert_fine();
}

/// The answer of the managed identity's endpoint.
async fn managed(url: &str, query: &str, header: Option<&str>) -> (u16, Value) {
    let mut request = reqwest::Client::new().get(format!("{url}?{query}"));
    if let Some(header) = header {
        request = request.header("x-identity-header", header);
    }
    let answer = request.send().await.expect("it answers");
    (answer.status().as_u16(), answer.json().await.expect("it is JSON"))
}

#[tokio::test]
async fn a_managed_identity_gets_a_token_that_azure_takes() {
    let (double, mut client) = start().await;
    let environment = double.managed_identity();
    let (url, header) = (variable(&environment, "IDENTITY_ENDPOINT"), variable(&environment, "IDENTITY_HEADER"));
    let resource = "resource=https://management.azure.com&api-version=2019-08-01";
    for (query, header, status) in [
        (resource.to_owned(), None, 401),
        (resource.to_owned(), Some("forged"), 401),
        ("resource=https://management.azure.com&api-version=2018-02-01".to_owned(), Some(header.as_str()), 400),
        ("api-version=2019-08-01".to_owned(), Some(header.as_str()), 400),
        (format!("{resource}&client_id=somebody"), Some(header.as_str()), 400),
    ] {
        assert_eq!(managed(&url, &query, header).await.0, status, "{query} {header:?}");
    }
    let (status, body) = managed(&url, resource, Some(&header)).await;
    assert_eq!(status, 200);
    client.token = body["access_token"].as_str().map(str::to_owned);
    assert_eq!(client.get(&path("")).await.status, 200);
    double.assert_fine();
}

#[tokio::test]
async fn while_identity_is_down_nobody_gets_a_token() {
    let (double, client) = start().await;
    let environment = double.managed_identity();
    let (url, header) = (variable(&environment, "IDENTITY_ENDPOINT"), variable(&environment, "IDENTITY_HEADER"));
    for (down, status) in [(true, 503), (false, 200)] {
        double.set_identity_down(down);
        assert_eq!(client.ask_for_token(&federated(&double)).await.status, status);
        let query = "resource=https://management.azure.com&api-version=2019-08-01";
        assert_eq!(managed(&url, query, Some(&header)).await.0, status);
    }
    double.assert_fine();
}

#[tokio::test]
async fn a_token_ends_and_that_is_nobodys_fault() {
    let (double, mut client) = start().await;
    double.advance(SLOW.token - Duration::from_secs(60));
    assert_eq!(client.get(&path("")).await.status, 200);
    double.advance(Duration::from_secs(60));
    let refused = client.get(&path("")).await;
    assert_eq!(refused.refusal(), (401, "ExpiredAuthenticationToken"));
    assert!(refused.header("www-authenticate").starts_with("Bearer "));
    let answer = client.ask_for_token(&federated(&double)).await;
    client.token = answer.body["access_token"].as_str().map(str::to_owned);
    assert_eq!(client.get(&path("")).await.status, 200);
    double.assert_fine();
}

#[tokio::test]
async fn a_token_that_is_not_azures_is_refused_and_noted() {
    let (double, mut client) = start().await;
    let mut form = federated(&double);
    form.iter_mut().filter(|(name, _)| *name == "scope").for_each(|(_, scope)| {
        "https://kusto.kusto.windows.net/.default".clone_into(scope);
    });
    let other = client.ask_for_token(&form).await.body["access_token"].as_str().map(str::to_owned);
    for (token, code) in [
        (None, "AuthenticationFailed"),
        (Some("forged".to_owned()), "InvalidAuthenticationToken"),
        (other, "InvalidAuthenticationTokenAudience"),
    ] {
        client.token = token;
        assert_eq!(client.get(&path("")).await.refusal(), (401, code));
        assert_eq!(double.take_violations().len(), 1, "{code}");
    }
}

#[tokio::test]
async fn the_instance_says_where_it_is_to_who_asks_rightly() {
    let (double, _) = start().await;
    let ask = |query: &'static str, header: Option<&'static str>| {
        let request = reqwest::Client::new().get(format!("{}/metadata/instance{query}", double.imds_url()));
        let request = header.into_iter().fold(request, |request, value| request.header("metadata", value));
        async move {
            let answer = request.send().await.expect("it answers");
            (answer.status().as_u16(), answer.json::<Value>().await.expect("it is JSON")["compute"].clone())
        }
    };
    const RIGHT: &str = "?api-version=2021-02-01";
    for (query, header) in
        [(RIGHT, None), (RIGHT, Some("yes")), ("", Some("true")), ("?api-version=1999-01-01", Some("true"))]
    {
        assert_eq!(ask(query, header).await.0, 400, "{query} {header:?}");
    }
    let (status, compute) = ask(RIGHT, Some("true")).await;
    assert_eq!(
        (status, &compute["subscriptionId"], &compute["location"]),
        (200, &json!(SUBSCRIPTION), &json!("eastus2"))
    );
    assert_eq!(compute["resourceGroupName"], "MC_fleet_aks_eastus2");
    let place = |name: &str| name.to_owned();
    let elsewhere = Imds::Answers { subscription_id: place("s"), resource_group: place("g"), location: place("l") };
    for (imds, status, group) in
        [(elsewhere, 200, json!("g")), (Imds::Down, 503, Value::Null), (Imds::Absent, 404, Value::Null)]
    {
        double.set_imds(imds);
        let (answered, compute) = ask(RIGHT, Some("true")).await;
        assert_eq!((answered, &compute["resourceGroupName"]), (status, &group));
    }
    double.assert_fine();
}

#[tokio::test]
async fn no_token_is_in_a_recording() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("recording");
    let public_url = Some("https://azure.example".to_owned());
    let options = AzureOptions { plain: true, record: Some(file.clone()), public_url, ..AzureOptions::default() };
    let (double, client) = start_with(options).await;
    let mut unknown = Client::of(&double);
    unknown.token = Some("forged-token".to_owned());
    client.get(&path("")).await;
    unknown.get(&path("/resourcegroups/fleet")).await;
    let recording = fs::read_to_string(&file).expect("the double wrote it");
    let lines: Vec<Value> = recording.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let told = |line: &Value| (line["request"]["url"].clone(), line["response"]["statusCode"].clone());
    let url = |rest: &str| json!(format!("https://azure.example{}?api-version=2025-04-01", path(rest)));
    assert_eq!(
        lines.iter().map(told).collect::<Vec<_>>(),
        [(url(""), json!("200")), (url("/resourcegroups/fleet"), json!("401"))]
    );
    for secret in [client.token.as_deref().unwrap_or_default(), "forged-token", &federated(&double)[4].1] {
        assert!(!secret.is_empty() && !recording.contains(secret), "{recording}");
    }
    assert_eq!(double.take_violations().len(), 1);
}
