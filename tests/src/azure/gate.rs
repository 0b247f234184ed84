//! Whether a request may get to its resource: token, path, version, subscription, content, rights, locks. Whatever a client should have known to be wrong is noted as
//! broken rule. No I/O; called by the exchange for every request.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    answer::Answer,
    exchange::{Request, State},
    route::Route,
    specification,
    tokens::Refusal,
    world::{CLIENT, TENANT, uuid_of},
};

impl State {
    /// Whether a request may get to the resource; notes what is wrong with it.
    pub(super) fn judge(
        &mut self,
        request: &Request,
        query: &BTreeMap<String, String>,
        body: Option<&Value>,
    ) -> Result<(String, Route), Answer> {
        let Request { method, path, .. } = request;
        self.authenticate(request)?;
        let parsed = Route::parse(path);
        let Some((subscription, route)) = parsed.filter(|(_, route)| route.allows(method)) else {
            self.violations.push(format!("{method} {path} is nothing that the double answers"));
            let (status, code) = match (specification::knows(method, path, query), Route::parse(path)) {
                (true, _) => (501, "NotImplemented"),
                (false, Some(_)) => (405, "MethodNotAllowed"),
                (false, None) => (404, "InvalidResourceType"),
            };
            return Err(Answer::error(status, code, &format!("There is no {method} for the path '{path}'.")));
        };
        let version = query.get("api-version").map_or("", String::as_str);
        if version != route.api_version() {
            self.violations.push(format!("{method} {path} with api-version '{version}'"));
            let code = if version.is_empty() { "MissingApiVersionParameter" } else { "InvalidApiVersionParameter" };
            let message = format!(
                "The api-version '{version}' is invalid. The supported versions are '{}'.",
                route.api_version()
            );
            return Err(Answer::error(400, code, &message));
        }
        if !self.world.subscriptions.contains_key(&subscription) {
            let message = format!("The subscription '{subscription}' could not be found.");
            return Err(Answer::error(404, "SubscriptionNotFound", &message));
        }
        let content = body.ok_or_else(|| vec!["the body is no JSON".to_owned()]).and_then(|body| {
            let mut wrong = specification::check_request(method, path, query, body);
            let kind = request.header("content-type").unwrap_or_default();
            if !body.is_null() && !kind.starts_with("application/json") {
                wrong.push(format!("content-type '{kind}'"));
            }
            if wrong.is_empty() { Ok(()) } else { Err(wrong) }
        });
        if let Err(wrong) = &content {
            self.violations.extend(wrong.iter().map(|wrong| format!("{method} {path}: {wrong}")));
        }
        self.authorize(method, path, &route)?;
        match content {
            Err(wrong) => Err(Answer::error(
                400,
                "InvalidRequestContent",
                &format!("The request content was invalid: {}", wrong.join("; ")),
            )),
            Ok(()) => Ok((subscription, route)),
        }
    }

    fn authenticate(&mut self, request: &Request) -> Result<(), Answer> {
        let refusal = match self.tokens.check(request.header("authorization"), self.world.now) {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        let (code, message) = match refusal {
            Refusal::Missing => {
                ("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
            }
            Refusal::Unknown => ("InvalidAuthenticationToken", "The access token is invalid."),
            Refusal::WrongAudience => {
                ("InvalidAuthenticationTokenAudience", "The access token has been obtained for wrong audience.")
            }
            Refusal::Expired => ("ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than now."),
        };
        // Nobody can know that the clock was put forward.
        if refusal != Refusal::Expired {
            self.violations.push(format!("{} {}: {message}", request.method, request.path));
        }
        let mut answer = Answer::error(401, code, message);
        let challenge = format!(
            "Bearer authorization_uri=\"https://login.microsoftonline.com/{TENANT}\", error=\"invalid_token\", error_description=\"{message}\""
        );
        answer.headers.push(("www-authenticate", challenge));
        Err(answer)
    }

    /// Rights and locks.
    fn authorize(&self, method: &str, path: &str, route: &Route) -> Result<(), Answer> {
        let action = route.action(method);
        let contains = |text: &str, part: &String| text.to_lowercase().contains(&part.to_lowercase());
        if self.world.forbidden.as_ref().is_some_and(|denied| contains(&action, denied)) {
            let object = uuid_of(&format!("object of {CLIENT}"));
            let message = format!(
                "The client '{CLIENT}' with object id '{object}' does not have authorization to perform action '{action}' over scope '{path}' or the scope is \
                 invalid. If access was recently granted, please refresh your credentials."
            );
            return Err(Answer::error(403, "AuthorizationFailed", &message));
        }
        if let Some(lock) = self.world.locked.as_ref().filter(|lock| route.is_write(method) && contains(path, lock)) {
            let verb = if method == "DELETE" { "delete" } else { "write" };
            let message = format!(
                "The scope '{path}' cannot perform {verb} operation because following scope(s) are locked: '{lock}'. Please remove the lock and try again."
            );
            return Err(Answer::error(409, "ScopeLocked", &message));
        }
        Ok(())
    }
}
