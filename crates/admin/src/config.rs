//! What an application decides about the admin page.

use std::{sync::Arc, time::Duration};

use crate::{auth::Auth, sessions::SessionStore};

/// Configuration of [`admin`](crate::admin()). Unless said otherwise the page shows counts only and can change nothing.
#[derive(Clone, Debug)]
#[must_use]
pub struct AdminConfig {
    pub(crate) auth: Auth,
    pub(crate) namespace: String,
    pub(crate) server_id: Option<String>,
    pub(crate) development: bool,
    pub(crate) writable: bool,
    pub(crate) max_sockets: usize,
    pub(crate) session_secret: Option<Vec<u8>>,
    pub(crate) session_duration: Duration,
    pub(crate) session_store: Option<Arc<dyn SessionStore>>,
}

impl AdminConfig {
    /// Production mode, read-only, for pages that log in so.
    pub fn new(auth: Auth) -> Self {
        Self {
            auth,
            namespace: "/admin".to_owned(),
            server_id: None,
            development: false,
            writable: false,
            max_sockets: 1000,
            session_secret: None,
            session_duration: Duration::from_secs(24 * 60 * 60),
            session_store: None,
        }
    }

    /// Shows sockets, rooms, handshakes, data and events, not only counts: `mode: "development"` of `instrument()`.
    pub fn development(mut self) -> Self {
        self.development = true;
        self
    }

    /// Lets the page emit, and make sockets of all nodes join rooms, leave rooms and disconnect.
    pub fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    /// The namespace of the page, the same on all servers; `/admin` otherwise.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The name under which the page lists this server, which no other may have; host name and process id otherwise.
    pub fn server_id(mut self, id: impl Into<String>) -> Self {
        self.server_id = Some(id.into());
        self
    }

    /// How many sockets of this server are shown in development mode, and how many of the cluster a page gets when it
    /// connects; 1,000 otherwise. The counts are always those of all.
    pub fn max_sockets(mut self, count: usize) -> Self {
        self.max_sockets = count;
        self
    }

    /// The key that signs sessions, the same on all servers. Otherwise the password's hash is the key, and with a function
    /// in its place a random one, which only this process knows.
    pub fn session_secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.session_secret = Some(secret.into());
        self
    }

    /// How long a page need not ask for the password again; a day otherwise.
    pub fn session_duration(mut self, duration: Duration) -> Self {
        self.session_duration = duration;
        self
    }

    /// Where sessions are kept too, so that servers that cannot check signatures accept them, and theirs are accepted.
    pub fn session_store(mut self, store: impl SessionStore + 'static) -> Self {
        self.session_store = Some(Arc::new(store));
        self
    }
}
