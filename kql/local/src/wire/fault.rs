//! Kusto's error body: `{"error": {"code", "message", "@type", "@message", "@context", "@permanent", "innererror"}}`, "OneApiErrors" in Kusto's docs. No I/O.
//!
//! A failed query is a `General_BadRequest` with the syntax or semantic error inside; clients look for the inner code first. A command that is no command is a
//! `BadRequest_SyntaxError`, and every other failure is the error itself.

use kql::literal;
use serde_json::{Value, json};

use crate::{
    error::{KustoError, KustoErrorKind},
    wire::{Exchange, ExchangeKind},
};

const REFUSED: &str = "Request is invalid and cannot be executed.";
const FAILED: &str = "Request failed, see the description for the cause.";

/// The body of an answer whose status is not 200, and the element of `OneApiErrors` in one whose status is.
pub fn body(error: &KustoError, exchange: &Exchange) -> Value {
    let inner = one(error.kind.code(), &error.message, error.kind, &error.to_string(), exchange);
    let error = match error.kind {
        KustoErrorKind::Syntax | KustoErrorKind::Semantic { .. } | KustoErrorKind::Unresolved { .. } => {
            let (code, kind) = match (error.kind, exchange.kind) {
                (KustoErrorKind::Syntax, ExchangeKind::Command) => ("BadRequest_SyntaxError", KustoErrorKind::Syntax),
                _ => ("General_BadRequest", KustoErrorKind::BadRequest),
            };
            let mut outer =
                one(code, REFUSED, kind, &format!("Request is invalid and cannot be processed: {error}"), exchange);
            outer["innererror"] = inner;
            outer
        }
        kind => {
            let mut outer = inner;
            outer["message"] = json!(if kind.is_permanent() { REFUSED } else { FAILED });
            outer
        }
    };
    json!({ "error": error })
}

fn one(code: &str, message: &str, kind: KustoErrorKind, description: &str, exchange: &Exchange) -> Value {
    json!({
        "code": code,
        "message": message,
        "@type": kind.exception(),
        "@message": description,
        "@context": {
            "timestamp": literal::datetime(exchange.received),
            "serviceAlias": exchange.service_alias,
            "machineName": "kusto-local",
            "processName": "kusto-local",
            "clientRequestId": exchange.client_request_id,
            "activityId": exchange.activity_id,
            "subActivityId": exchange.activity_id,
            "activityType": exchange.kind.activity_type(),
            "parentActivityId": exchange.activity_id,
        },
        "@permanent": kind.is_permanent(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange() -> Exchange {
        Exchange::example(ExchangeKind::Query)
    }

    #[test]
    fn a_semantic_error_is_a_bad_request_with_its_code_inside() {
        let body = body(&KustoError::semantic("SEM0100", "no such column"), &exchange());
        assert_eq!(body["error"]["code"], "General_BadRequest");
        assert_eq!(body["error"]["@permanent"], true);
        assert_eq!(
            body["error"]["@message"],
            "Request is invalid and cannot be processed: Semantic error: SEM0100: no such column"
        );
        assert_eq!(body["error"]["innererror"]["code"], "SEM0100");
        assert_eq!(body["error"]["innererror"]["@type"], "Kusto.Data.Exceptions.SemanticException");
        assert_eq!(body["error"]["@context"]["clientRequestId"], "client");
        assert_eq!(body["error"]["@context"]["timestamp"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_command_that_is_no_command_is_a_syntax_error() {
        let error = KustoError::syntax("expected a command").at((1, 2));
        let body = body(&error, &Exchange::example(ExchangeKind::Command));
        assert_eq!(body["error"]["code"], "BadRequest_SyntaxError");
        assert_eq!(body["error"]["innererror"]["code"], "SYN0002");
        assert_eq!(body["error"]["innererror"]["@message"], "Syntax error: expected a command [line:position=1:2]");
    }

    #[test]
    fn a_missing_entity_is_the_error_itself() {
        let body = body(&KustoError::not_found("Table", "T"), &exchange());
        assert_eq!(body["error"]["code"], "BadRequest_EntityNotFound");
        assert_eq!(body["error"]["@type"], "Kusto.Data.Exceptions.EntityNotFoundException");
        assert_eq!(body["error"]["@message"], "Entity ID 'T' of kind 'Table' was not found.");
        assert!(body["error"].get("innererror").is_none());
    }
}
