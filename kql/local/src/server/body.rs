//! Bodies in and out: read up to a limit, compressed if the client asks. Called by [`super::exchange`].

use std::{
    io::{self, Write},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use futures::{StreamExt, stream};

use crate::{
    error::KustoError,
    ingest::too_large,
    wire::{ACTIVITY_ID, CLIENT_REQUEST_ID, Exchange},
};

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Answers below this are not worth compressing.
const COMPRESS_FROM: usize = 1400;
/// How long the beginning of an answer that is cut off has to be on its way.
const BEFORE_THE_CUT: Duration = Duration::from_millis(50);

/// The whole body, as it was sent.
///
/// # Errors
/// It is larger than `max`, was cut off, or took too long.
pub(super) async fn read(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, KustoError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max) {
        return Err(too_large(max));
    }
    let arrived = tokio::time::timeout(ARRIVAL, collect(body, max)).await;
    arrived.unwrap_or_else(|_| {
        Err(KustoError::bad_request(format!("the request body did not arrive within {} seconds", ARRIVAL.as_secs())))
    })
}

async fn collect(body: Body, max: usize) -> Result<Bytes, KustoError> {
    let mut chunks = body.into_data_stream();
    let mut collected = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| KustoError::bad_request(format!("the request body was cut off: {error}")))?;
        if collected.len() + chunk.len() > max {
            return Err(too_large(max));
        }
        collected.extend_from_slice(&chunk);
    }
    Ok(collected.freeze())
}

/// An answer with the headers that every answer of Kusto has.
pub(super) fn respond(request: &HeaderMap, exchange: &Exchange, status: u16, json: Vec<u8>) -> Response<Body> {
    let (json, compressed) = match compress(request, &json) {
        Some(smaller) => (smaller, true),
        None => (json, false),
    };
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if compressed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    for (name, value) in [(CLIENT_REQUEST_ID, &exchange.client_request_id), (ACTIVITY_ID, &exchange.activity_id)] {
        // The client's id came in as a header, so it can go out as one.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// An answer of which not a byte arrives before the connection breaks.
pub(super) fn lost() -> Response<Body> {
    Response::new(Body::from_stream(stream::once(async { Err::<Bytes, _>(connection_reset()) })))
}

/// An answer of which the head and this much of the body arrive before the connection breaks.
pub(super) fn cut(start: &[u8]) -> Response<Body> {
    let start = Bytes::copy_from_slice(start);
    // What has been given is written out when the body has nothing more to give for now; an error that is ready at once would take it along.
    let broken = async {
        tokio::time::sleep(BEFORE_THE_CUT).await;
        Err(connection_reset())
    };
    let mut response = Response::new(Body::from_stream(stream::once(async { Ok(start) }).chain(stream::once(broken))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

fn connection_reset() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

/// What a proxy or a sign-in page answers.
pub(super) fn page() -> Response<Body> {
    let mut response = Response::new(Body::from("<!DOCTYPE html><html><body><h1>Sign in</h1></body></html>"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// Somewhere else.
pub(super) fn redirect(url: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(url) = HeaderValue::from_str(url) {
        response.headers_mut().insert(header::LOCATION, url);
    }
    response
}

fn compress(request: &HeaderMap, json: &[u8]) -> Option<Vec<u8>> {
    if json.len() < COMPRESS_FROM || !accepts_gzip(request) {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(json.len() / 4), Compression::fast());
    encoder.write_all(json).ok()?;
    encoder.finish().ok()
}

/// `Accept-Encoding: gzip, deflate;q=0`
fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        named && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_where_it_is_accepted() {
        let accepts = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
            accepts_gzip(&headers)
        };
        assert!(accepts("gzip"));
        assert!(accepts("deflate, GZIP;q=0.5"));
        assert!(!accepts("gzip;q=0, identity"));
        assert!(!accepts("identity"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
