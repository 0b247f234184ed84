//! A token for one audience, kept while it is good. I/O: the issuer, through azure_identity.

use std::{fmt, sync::Arc, time::Instant};

use azure_core::{
    credentials::{AccessToken, TokenCredential},
    time::{Duration, OffsetDateTime},
};
use azure_identity::{
    AzureCliCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use reqwest::header::HeaderValue;
use tokio::{sync::Mutex, time::timeout};

use super::CredentialConfig;

/// A token is renewed when less than this remains. azure_identity renews at 5 minutes and then fails although the token is still good.
const RENEW_BEFORE: Duration = Duration::minutes(10);

/// A token is used while more than this remains: it must outlive the request's way.
const USABLE_UNTIL: Duration = Duration::seconds(30);

/// After a failure without any token the issuer is left alone this long: each try may take as long as the patience, and callers wait for one another.
const FAILURE_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// After a failed renewal the issuer is left alone this long, while the old token is still good.
const RENEWAL_PAUSE: Duration = Duration::seconds(30);

/// The longest wait for the issuer. azure_identity itself tries for minutes, while a caller's request would run out of time and look like a slow cluster.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Why there is no token. The sources say the rest; print the whole chain.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The environment lacks what the credential needs.
    #[error("failed to set up the credential '{credential}'")]
    SetUp {
        /// Which one.
        credential: &'static str,
        /// Why.
        source: azure_core::Error,
    },
    /// The issuer gave no token.
    #[error("failed to get a token from the credential '{credential}'")]
    Token {
        /// Which one.
        credential: &'static str,
        /// Why.
        source: azure_core::Error,
    },
    /// The issuer did not answer.
    #[error("no token came from the credential '{credential}' within {after:?}")]
    TimedOut {
        /// Which one.
        credential: &'static str,
        /// The limit.
        after: std::time::Duration,
    },
    /// What the issuer answered a moment ago.
    #[error(transparent)]
    Recent(Arc<CredentialError>),
    /// `CredentialConfig::None`, or a token that is no header value.
    #[error("the credential '{credential}' gives no usable token")]
    Unusable {
        /// Which one.
        credential: &'static str,
    },
}

/// Tokens of one credential for one audience. The token is in no message, log or `Debug` output.
#[derive(Clone)]
pub struct TokenSource(Arc<Inner>);

type SetUp = dyn Fn(&CredentialConfig) -> Result<Arc<dyn TokenCredential>, CredentialError> + Send + Sync;

struct Inner {
    config: CredentialConfig,
    set_up: Box<SetUp>,
    scope: String,
    patience: std::time::Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    credential: Option<Arc<dyn TokenCredential>>,
    token: Option<AccessToken>,
    renew_not_before: Option<OffsetDateTime>,
    /// When the issuer failed last, and how.
    failed: Option<(Instant, Arc<CredentialError>)>,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("config", &self.0.config)
            .field("scope", &self.0.scope)
            .finish_non_exhaustive()
    }
}

impl TokenSource {
    /// A source of tokens for `audience`, such as `https://kusto.kusto.windows.net`. Asks nobody yet.
    pub fn new(config: CredentialConfig, audience: &str) -> Self {
        let scope = format!("{}/.default", audience.trim_end_matches('/'));
        Self(Arc::new(Inner { config, set_up: Box::new(set_up), scope, patience: PATIENCE, state: Mutex::default() }))
    }

    /// A source of one issuer's tokens, as tests have it.
    #[cfg(test)]
    pub(crate) fn of_issuer(credential: Arc<dyn TokenCredential>) -> Self {
        Self(Arc::new(Inner {
            config: CredentialConfig::AzureCli,
            set_up: Box::new(move |_| Ok(Arc::clone(&credential))),
            scope: "https://kusto.kusto.windows.net/.default".to_owned(),
            patience: std::time::Duration::from_millis(50),
            state: Mutex::default(),
        }))
    }

    /// The value of the `Authorization` header, marked as sensitive so that no HTTP log prints it.
    ///
    /// # Errors
    /// If there is no token that is still good and no new one can be had.
    pub async fn header(&self) -> Result<HeaderValue, CredentialError> {
        let token = self.token(OffsetDateTime::now_utc()).await?;
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.token.secret()))
            .map_err(|_| CredentialError::Unusable { credential: self.0.config.as_str() })?;
        header.set_sensitive(true);
        Ok(header)
    }

    /// A service did not take this header although its token was not over: it is not used again, and the next one comes from the issuer.
    pub async fn forget(&self, refused: &HeaderValue) {
        let mut state = self.0.state.lock().await;
        let is_kept =
            |token: &AccessToken| refused.as_bytes().strip_prefix(b"Bearer ") == Some(token.token.secret().as_bytes());
        // Another caller may have got a new one meanwhile. azure_identity keeps tokens, too.
        if state.token.as_ref().is_some_and(is_kept) {
            (state.token, state.credential) = (None, None);
        }
    }

    /// The kept token, or a new one. One caller asks the issuer, the others wait for its answer.
    async fn token(&self, now: OffsetDateTime) -> Result<AccessToken, CredentialError> {
        let mut state = self.0.state.lock().await;
        let usable = state.token.clone().filter(|token| token.expires_on - now > USABLE_UNTIL);
        if let Some(token) = &usable {
            let fresh = token.expires_on - now > RENEW_BEFORE;
            let resting = state.renew_not_before.is_some_and(|time| now < time);
            if fresh || resting {
                return Ok(token.clone());
            }
        }
        let recent = state.failed.as_ref().filter(|(at, _)| usable.is_none() && at.elapsed() < FAILURE_PAUSE);
        if let Some((_, error)) = recent {
            return Err(CredentialError::Recent(Arc::clone(error)));
        }
        let renewed = self.renew(&mut state).await;
        match (renewed, usable) {
            (Ok(token), _) => {
                (state.renew_not_before, state.failed) = (None, None);
                state.token = Some(token.clone());
                Ok(token)
            }
            (Err(error), Some(token)) => {
                tracing::warn!(
                    credential = %self.0.config,
                    error = crate::runtime::chain(&error),
                    "token was not renewed; the old one is still good"
                );
                state.renew_not_before = Some(now + RENEWAL_PAUSE);
                Ok(token)
            }
            (Err(error), None) => {
                let error = Arc::new(error);
                state.failed = Some((Instant::now(), Arc::clone(&error)));
                Err(CredentialError::Recent(error))
            }
        }
    }

    async fn renew(&self, state: &mut State) -> Result<AccessToken, CredentialError> {
        let config = &self.0.config;
        let credential = match &state.credential {
            Some(credential) => Arc::clone(credential),
            None => state.credential.insert((self.0.set_up)(config)?).clone(),
        };
        let answer = timeout(self.0.patience, credential.get_token(&[&self.0.scope], None)).await;
        if !matches!(answer, Ok(Ok(_))) {
            // azure_identity keeps what it read of the federated token's file for ten minutes, also when the issuer does not take it.
            state.credential = None;
        }
        match answer {
            Ok(answer) => answer.map_err(|source| CredentialError::Token { credential: config.as_str(), source }),
            Err(_) => Err(CredentialError::TimedOut { credential: config.as_str(), after: self.0.patience }),
        }
    }
}

fn set_up(config: &CredentialConfig) -> Result<Arc<dyn TokenCredential>, CredentialError> {
    let credential: azure_core::Result<Arc<dyn TokenCredential>> = match config {
        CredentialConfig::ManagedIdentity { client_id } => {
            ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: client_id.clone().map(UserAssignedId::ClientId),
                ..ManagedIdentityCredentialOptions::default()
            }))
            .map(|credential| credential as _)
        }
        CredentialConfig::WorkloadIdentity { client_id, tenant_id } => {
            WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                client_id: client_id.clone(),
                tenant_id: tenant_id.clone(),
                ..WorkloadIdentityCredentialOptions::default()
            }))
            .map(|credential| credential as _)
        }
        CredentialConfig::AzureCli => AzureCliCredential::new(None).map(|credential| credential as _),
        CredentialConfig::None => return Err(CredentialError::Unusable { credential: config.as_str() }),
    };
    credential.map_err(|source| CredentialError::SetUp { credential: config.as_str(), source })
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex as StdMutex};

    use azure_core::{credentials::TokenRequestOptions, error::ErrorKind};

    use super::*;

    /// An issuer that gives these tokens, named with the minute of their end, one after another.
    #[derive(Debug)]
    struct Issuer(StdMutex<VecDeque<Option<i64>>>);

    #[async_trait::async_trait]
    impl TokenCredential for Issuer {
        async fn get_token(
            &self,
            scopes: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            assert_eq!(scopes, ["https://kusto.kusto.windows.net/.default"]);
            match self.0.lock().unwrap().pop_front() {
                Some(Some(minute)) => Ok(AccessToken::new(format!("token-{minute}"), at(minute))),
                Some(None) => Err(azure_core::Error::with_message(ErrorKind::Credential, "the issuer is down")),
                None => panic!("the issuer was asked once more"),
            }
        }
    }

    fn at(minute: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::minutes(minute)
    }

    fn source(answers: impl IntoIterator<Item = Option<i64>>) -> TokenSource {
        TokenSource::of_issuer(Arc::new(Issuer(StdMutex::new(answers.into_iter().collect()))))
    }

    /// An issuer that never answers.
    #[derive(Debug)]
    struct Silence;

    #[async_trait::async_trait]
    impl TokenCredential for Silence {
        async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_silent_issuer_is_given_up() {
        let error = TokenSource::of_issuer(Arc::new(Silence)).header().await.unwrap_err();
        assert_eq!(error.to_string(), "no token came from the credential 'Azure CLI' within 50ms");
    }

    async fn token(source: &TokenSource, minute: i64) -> Result<String, CredentialError> {
        source.token(at(minute)).await.map(|token| token.token.secret().to_owned())
    }

    #[tokio::test]
    async fn a_token_is_kept_until_ten_minutes_before_its_end() {
        let source = source([Some(60), Some(120)]);
        for (minute, expected) in [(0, "token-60"), (49, "token-60"), (51, "token-120"), (109, "token-120")] {
            assert_eq!(token(&source, minute).await.unwrap(), expected, "{minute}");
        }
    }

    #[tokio::test]
    async fn a_token_that_is_still_good_outlives_its_issuer() {
        let source = source([Some(60), None, None, Some(120)]);
        assert_eq!(token(&source, 0).await.unwrap(), "token-60");
        assert_eq!(token(&source, 51).await.unwrap(), "token-60");
        assert_eq!(source.token(at(51) + Duration::seconds(20)).await.unwrap().expires_on, at(60), "the issuer rests");
        assert_eq!(token(&source, 52).await.unwrap(), "token-60");
        assert_eq!(token(&source, 53).await.unwrap(), "token-120");
    }

    #[tokio::test]
    async fn a_token_at_its_end_is_not_used_and_the_issuers_error_is_told() {
        let source = source([Some(60), None]);
        token(&source, 0).await.unwrap();
        let error = source.token(at(60) - Duration::seconds(30)).await.unwrap_err();
        assert_eq!(
            crate::runtime::chain(&error),
            "failed to get a token from the credential 'Azure CLI': the issuer is down"
        );
    }

    #[tokio::test]
    async fn who_waited_for_an_issuer_that_failed_does_not_ask_it_again_at_once() {
        let source = source([None, Some(60)]);
        let (first, second) = tokio::join!(token(&source, 0), token(&source, 0));
        assert_eq!(first.unwrap_err().to_string(), second.unwrap_err().to_string());
        source.0.state.lock().await.failed.as_mut().unwrap().0 -= FAILURE_PAUSE;
        assert_eq!(token(&source, 0).await.unwrap(), "token-60");
    }

    #[tokio::test]
    async fn a_token_that_a_service_refused_is_not_used_again() {
        // In the year 2103.
        let source = source([Some(70_000_000)]);
        let header = source.header().await.unwrap();
        source.forget(&HeaderValue::from_static("Bearer another")).await;
        assert_eq!(source.header().await.unwrap(), header, "somebody else's token says nothing about this one");
        source.forget(&header).await;
        let state = source.0.state.lock().await;
        assert!(state.token.is_none() && state.credential.is_none());
    }

    #[tokio::test]
    async fn no_token_is_ever_printed() {
        // In the year 2103.
        let source = source([Some(70_000_000)]);
        let header = source.header().await.unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer token-70000000");
        assert!(!format!("{header:?} {source:?}").contains("token-"));
    }
}
