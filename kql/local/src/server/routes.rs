//! Which path is what. Called once, when the server starts.

use std::sync::Arc;

use axum::{
    Router,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    App,
    exchange::{Endpoint, Streaming, exchange},
};

/// All paths of the protocol.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/rest/mgmt", post(|State(app), request: Request| exchange(app, Endpoint::Command, request)))
        .route("/v1/rest/query", post(|State(app), request: Request| exchange(app, Endpoint::QueryV1, request)))
        .route("/v2/rest/query", post(|State(app), request: Request| exchange(app, Endpoint::QueryV2, request)))
        .route("/v1/rest/ingest/{database}/{table}", post(ingest))
        .route("/v1/rest/auth/metadata", get(|State(app), request: Request| exchange(app, Endpoint::Metadata, request)))
        .method_not_allowed_fallback(|State(app), request: Request| exchange(app, Endpoint::Unknown, request))
        .fallback(|State(app), request: Request| exchange(app, Endpoint::Unknown, request))
        .with_state(app)
}

/// What the path says of a streaming ingestion.
#[derive(Debug, Deserialize)]
struct Target {
    database: String,
    table: String,
}

/// What the query string says of a streaming ingestion.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    stream_format: Option<String>,
    mapping_name: Option<String>,
    source_kind: Option<String>,
}

async fn ingest(
    State(app): State<Arc<App>>,
    target: Result<Path<Target>, PathRejection>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Response {
    let endpoint = match (target, parameters) {
        (Ok(Path(target)), Ok(Query(parameters))) => {
            let Target { database, table } = target;
            let Parameters { stream_format, mapping_name, source_kind } = parameters;
            Endpoint::Ingest(Streaming { database, table, format: stream_format, mapping: mapping_name, source_kind })
        }
        (Err(rejection), _) => Endpoint::Malformed(rejection.body_text()),
        (_, Err(rejection)) => Endpoint::Malformed(rejection.body_text()),
    };
    exchange(app, endpoint, request).await
}
