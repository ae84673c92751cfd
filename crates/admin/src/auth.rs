//! Logging in.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{sync::Semaphore, task::spawn_blocking, time::sleep};
use trunkline_socketioxide::{Error, ErrorKind, Result};

use crate::{
    config::AdminConfig,
    sessions::{SessionStore, Tokens},
};

/// How the page logs in.
#[derive(Clone)]
pub struct Auth(Check);

#[derive(Clone)]
enum Check {
    None,
    Basic { username: Arc<str>, hash: Arc<str> },
    Function(Arc<dyn Fn(String, String) -> Checking + Send + Sync>),
}

type Checking = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Auth {
    /// One user name, and the bcrypt hash of its password: what `auth: { type: "basic" }` is to `instrument()`. Hashes that
    /// begin with `$2a$`, `$2b$` and `$2y$` are known.
    ///
    /// # Errors
    /// `Config` if the hash is none.
    pub fn basic(username: impl Into<String>, hash: impl Into<String>) -> Result<Self> {
        let hash = hash.into();
        // The error could quote the hash.
        let parsed: std::result::Result<bcrypt::HashParts, _> = hash.parse();
        if !hash.starts_with('$') || !parsed.is_ok_and(|parts| (4..=31).contains(&parts.get_cost())) {
            return Err(Error::new(ErrorKind::Config, "the password of the admin page must be a bcrypt hash"));
        }
        Ok(Self(Check::Basic { username: username.into().into(), hash: hash.into() }))
    }

    /// A function of user name and password.
    pub fn check<F, Fut>(check: F) -> Self
    where
        F: Fn(String, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        Self(Check::Function(Arc::new(move |username, password| Box::pin(check(username, password)))))
    }

    /// No password: the page is open to anyone who reaches the server.
    pub fn none() -> Self {
        Self(Check::None)
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Check::None => "None",
            Check::Basic { .. } => "Basic",
            Check::Function(_) => "Function",
        })
    }
}

/// What the page sends as `auth`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Credentials {
    session_id: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// A page that was refused. The page knows this text.
#[derive(Debug)]
pub(crate) struct InvalidCredentials;

impl fmt::Display for InvalidCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid credentials")
    }
}

/// A session that the page is to keep.
#[derive(Clone, Debug)]
pub(crate) struct NewSession(pub(crate) String);

/// Admits pages.
pub(crate) struct Gate {
    check: Check,
    tokens: Tokens,
    store: Option<Arc<dyn SessionStore>>,
    duration: Duration,
    /// Attempts that are being checked, or pay for having been wrong.
    attempts: Semaphore,
}

impl Gate {
    pub(crate) fn new(config: &AdminConfig) -> Result<Self> {
        let duration = config.session_duration;
        let tokens = match (&config.session_secret, &config.auth.0) {
            (Some(secret), _) => Tokens::signed_with(secret, duration),
            (None, Check::Basic { hash, .. }) => Tokens::signed_with(hash.as_bytes(), duration),
            (None, _) => Tokens::of_this_process(duration)?,
        };
        let store = config.session_store.clone();
        Ok(Self { check: config.auth.0.clone(), tokens, store, duration, attempts: Semaphore::new(ATTEMPTS) })
    }

    /// A session if the page has logged in with a password, `None` if it needs none.
    pub(crate) async fn admit(&self, credentials: Credentials) -> Result<Option<NewSession>, InvalidCredentials> {
        if let Check::None = self.check {
            return Ok(None);
        }
        let Credentials { session_id, username, password } = credentials;
        if let Some(session) = session_id.filter(|session| !session.is_empty() && session.len() <= MAX_SESSION_BYTES)
            && self.knows(&session).await
        {
            return Ok(None);
        }
        let (Some(username), Some(password)) = (username, password) else { return Err(InvalidCredentials) };
        // Never closed.
        let _attempt = self.attempts.acquire().await;
        if !self.is_right(username, password).await {
            sleep(PRICE).await;
            tracing::warn!("a login to the admin page was refused");
            return Err(InvalidCredentials);
        }
        let session = self.tokens.issue().map_err(|_| InvalidCredentials)?;
        if let Some(store) = &self.store {
            store.save(&session, self.duration).await;
        }
        Ok(Some(NewSession(session)))
    }

    async fn knows(&self, session: &str) -> bool {
        if self.tokens.is_valid(session) {
            return true;
        }
        match &self.store {
            Some(store) => store.exists(session).await,
            None => false,
        }
    }

    /// Takes as long for an unknown name as for a wrong password.
    async fn is_right(&self, name: String, password: String) -> bool {
        match &self.check {
            Check::None => true,
            Check::Function(check) => check(name, password).await,
            Check::Basic { username, hash } => {
                let is_known = name == **username;
                let hash = Arc::clone(hash);
                let matches = spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
                matches.await.unwrap_or(false) && is_known
            }
        }
    }
}

/// How many passwords a server checks at once.
const ATTEMPTS: usize = 4;

/// What a wrong password costs.
const PRICE: Duration = Duration::from_secs(1);

/// Longer than any session of this crate or of `instrument()`.
const MAX_SESSION_BYTES: usize = 256;
