//! Credentials that change: asked for before each connection.

use std::{error, fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;
use trunkline_core::{Error, ErrorKind, Result};

/// User and password for one connection; a token that stands for a password is given as one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Login {
    /// Name of the user; `None` for the default user, or where a token needs none.
    pub user: Option<String>,
    /// Password or token.
    pub password: String,
    /// How long the server accepts it from now on, if that ends; [`Login::valid_for`].
    pub valid_for: Option<Duration>,
}

impl Login {
    /// A user and the password, or token, of this moment.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..Self::of_token(password) }
    }

    /// A password or token alone.
    #[must_use]
    pub fn of_token(token: impl Into<String>) -> Self {
        Self { user: None, password: token.into(), valid_for: None }
    }

    /// Says how long the server accepts it. A backend whose servers end connections with expired credentials (Redis as a
    /// service) authenticates on those that stand before that time is over; others need not know.
    #[must_use]
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = Some(time);
        self
    }
}

impl fmt::Debug for Login {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Gives the credentials of each connection, the first one and those after a loss. Cheap to clone.
#[derive(Clone)]
pub struct CredentialsProvider(Arc<dyn Fn() -> BoxFuture<'static, Result<Login>> + Send + Sync>);

impl CredentialsProvider {
    /// Asks `ask` before each connection. The time that it takes counts to that of connecting. Its error makes the attempt
    /// fail, as `Disconnected`; after a loss there are others.
    pub fn new<F, Fut, E>(ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Login, E>> + Send + 'static,
        E: Into<Box<dyn error::Error + Send + Sync>> + 'static,
    {
        Self(Arc::new(move || {
            let asked = ask();
            let failed = |error: E| Error::new(ErrorKind::Disconnected, "no credentials").with_source(error);
            async move { asked.await.map_err(failed) }.boxed()
        }))
    }

    /// The credentials of this moment.
    ///
    /// # Errors
    /// `Disconnected`, with what the application said, or if it says nothing within `limit`.
    pub async fn ask(&self, limit: Duration) -> Result<Login> {
        let late = |_| Err(Error::new(ErrorKind::Disconnected, format!("no credentials within {limit:?}")));
        timeout(limit, (self.0)()).await.unwrap_or_else(late)
    }
}

impl fmt::Debug for CredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsProvider")
    }
}

impl PartialEq for CredentialsProvider {
    /// Whether it is the same one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CredentialsProvider {}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_does_not_answer_is_an_error_that_may_pass() {
        let provider = CredentialsProvider::new(async || pending::<Result<Login>>().await);
        let error = provider.ask(Duration::from_secs(5)).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("within 5s"), "{error}");
    }

    #[test]
    fn no_password_is_shown() {
        let login = Login::new("app", "s3cret").valid_for(Duration::from_secs(60));
        assert!(!format!("{login:?}").contains("s3cret"));
    }
}
