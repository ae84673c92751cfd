//! User and password of connections: fixed ones, or those that the application gives, which may expire.
//!
//! A service that gives out tokens ends a connection when its token expires, unless it authenticates again before. So
//! the provider is asked again in time, and each connection that stands authenticates with what it gives.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};
use trunkline_backend::{Backoff, CredentialsProvider, Login};
use trunkline_core::Result;

use super::{FIRST_PAUSE, resp::write_command};

/// The provider is asked no more often, however short its credentials are valid.
const LEAST_PAUSE: Duration = Duration::from_millis(500);

/// User and password of the connections of a [`ServerPool`](super::ServerPool).
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    fixed: Option<Login>,
    /// Takes the place of `fixed`.
    provider: Option<CredentialsProvider>,
    /// How long the provider may take.
    limit: Duration,
    /// How long the last login is valid, if the provider says so.
    valid_for: Arc<Mutex<Option<Duration>>>,
    renewed: watch::Sender<Option<Login>>,
}

impl Credentials {
    pub(super) fn new(
        user: Option<&String>,
        password: Option<&String>,
        provider: Option<&CredentialsProvider>,
        limit: Duration,
    ) -> Self {
        let fixed = password.map(|password| {
            let mut login = Login::of_token(password);
            login.user = user.cloned();
            login
        });
        let (valid_for, renewed) = Default::default();
        Self { fixed, provider: provider.cloned(), limit, valid_for, renewed }
    }

    /// Those of a new connection.
    pub(super) async fn of_connection(&self) -> Result<Option<Login>> {
        let Some(provider) = &self.provider else { return Ok(self.fixed.clone()) };
        let login = provider.ask(self.limit).await?;
        *self.valid_for.lock().unwrap_or_else(PoisonError::into_inner) = login.valid_for;
        Ok(Some(login))
    }

    /// Asks the provider again whenever three quarters of the time are over for which its credentials are valid. Returns
    /// if they do not expire.
    pub(super) async fn keep_valid(&self, max_backoff: Duration) {
        loop {
            let valid_for = *self.valid_for.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(valid_for) = valid_for else { return };
            sleep((valid_for * 3 / 4).max(LEAST_PAUSE)).await;
            let mut backoff = Backoff::new(FIRST_PAUSE, max_backoff);
            loop {
                match self.of_connection().await {
                    Ok(login) => break drop(self.renewed.send_replace(login)),
                    Err(error) => tracing::warn!(%error, "the credentials are not renewed yet"),
                }
                sleep(backoff.next_pause()).await;
            }
        }
    }

    /// To be told of renewals from now on.
    pub(super) fn renewals(&self) -> Renewals {
        Renewals(self.renewed.subscribe())
    }
}

/// The renewed credentials of a connection that stands.
pub(crate) struct Renewals(watch::Receiver<Option<Login>>);

impl Renewals {
    /// Waits for the next credentials, and returns the command that authenticates with them. *Cancel safe.*
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        encode(&self.next_login().await)
    }

    /// Waits for the next credentials. *Cancel safe.*
    pub(super) async fn next_login(&mut self) -> Login {
        loop {
            if self.0.changed().await.is_err() {
                return std::future::pending().await;
            }
            if let Some(login) = self.0.borrow_and_update().clone() {
                return login;
            }
        }
    }

    /// As [`Renewals::next`], if there are others than before.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        if self.0.has_changed().unwrap_or(false) { self.0.borrow_and_update().as_ref().map(encode) } else { None }
    }
}

fn encode(login: &Login) -> Vec<u8> {
    let mut command = Vec::new();
    write_command(&mut command, authentication(login));
    command
}

/// `AUTH` with user and password.
pub(super) fn authentication(Login { user, password, .. }: &Login) -> Vec<&[u8]> {
    [&b"AUTH"[..]].into_iter().chain(user.iter().chain([password]).map(String::as_bytes)).collect()
}

/// Says that the server does not accept renewed credentials. The connection stands until the server ends it.
pub(crate) fn not_renewed(reason: &impl fmt::Display) {
    tracing::warn!(%reason, "the server does not accept the renewed credentials");
}
