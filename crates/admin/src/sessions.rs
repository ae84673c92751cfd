//! Sessions, by which a page that comes back need not ask for the password.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use trunkline_socketioxide::{Error, ErrorKind, Result};

/// A place where sessions of pages are kept for servers that cannot check signatures.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// Whether the session is there. A store that cannot be reached has none.
    async fn exists(&self, session: &str) -> bool;

    /// Keeps a session for so long. What fails is logged: sessions are signed, and servers of this crate accept them
    /// anyway.
    async fn save(&self, session: &str, duration: Duration);
}

/// Issues and checks sessions, which need no store: each says until when it is valid, and is signed.
pub(crate) struct Tokens {
    mac: Hmac<Sha256>,
    duration: Duration,
}

impl Tokens {
    pub(crate) fn signed_with(secret: &[u8], duration: Duration) -> Self {
        let mut mac = Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        // Another use of the same key must not yield a session.
        mac.update(b"trunkline-admin session\0");
        Self { mac, duration }
    }

    pub(crate) fn of_this_process(duration: Duration) -> Result<Self> {
        Ok(Self::signed_with(&random()?, duration))
    }

    pub(crate) fn issue(&self) -> Result<String> {
        let mut token = [0; TOKEN];
        let until = now().saturating_add(self.duration.as_secs());
        token[..8].copy_from_slice(&until.to_be_bytes());
        token[8..SIGNED].copy_from_slice(&random()?[..SIGNED - 8]);
        let signature = self.mac.clone().chain_update(&token[..SIGNED]).finalize().into_bytes();
        token[SIGNED..].copy_from_slice(&signature);
        Ok(BASE64.encode(token))
    }

    pub(crate) fn is_valid(&self, session: &str) -> bool {
        let Ok(token) = BASE64.decode(session) else { return false };
        let Some((signed, signature)) = token.split_at_checked(SIGNED) else { return false };
        let Some(until) = signed.first_chunk() else { return false };
        self.mac.clone().chain_update(signed).verify_slice(signature).is_ok() && now() < u64::from_be_bytes(*until)
    }
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(ErrorKind::Config, "this system has no random numbers").with_source(error))?;
    Ok(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Eight bytes until when it is valid, and twelve by which sessions differ.
const SIGNED: usize = 20;

/// With its signature.
const TOKEN: usize = SIGNED + 32;

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_session_is_valid_on_every_server_that_has_the_secret() {
        let session = Tokens::signed_with(b"secret", HOUR).issue().unwrap();
        assert!(Tokens::signed_with(b"secret", HOUR).is_valid(&session));
        assert!(!Tokens::signed_with(b"other", HOUR).is_valid(&session));
        assert_ne!(session, Tokens::signed_with(b"secret", HOUR).issue().unwrap());
    }

    #[test]
    fn a_session_ends() {
        let tokens = Tokens::signed_with(b"secret", Duration::ZERO);
        assert!(!tokens.is_valid(&tokens.issue().unwrap()));
    }

    #[test]
    fn a_changed_session_is_not_valid() {
        let tokens = Tokens::signed_with(b"secret", HOUR);
        let token = BASE64.decode(tokens.issue().unwrap()).unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone();
            changed[at] ^= 1;
            assert!(!tokens.is_valid(&BASE64.encode(changed)), "byte {at}");
        }
        for text in ["", "x", "ä", &BASE64.encode(&token[..TOKEN - 1]), &BASE64.encode([0; 8])] {
            assert!(!tokens.is_valid(text), "{text}");
        }
    }
}
