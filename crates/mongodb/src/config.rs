//! Settings, and how a URL sets them.

use std::{fmt, time::Duration};

use mongodb::options::ConnectionString;
use percent_encoding::percent_decode_str;
use trunkline_backend::{
    CredentialsProvider, Login, OutboxLimits,
    url::{ByteSize, Params, did_you_mean, redact},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::MAX_DOCUMENT_BYTES;

/// The settings of a [`MongoDb`](crate::MongoDb) transport: made from a URL, then changed field by field.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The driver's part of the URL, password included.
    uri: String,
    /// Asked for each client of the driver; [`Config::credentials`].
    pub(crate) provider: Option<CredentialsProvider>,
    /// Name of the database. Default `socket_io`.
    pub database: String,
    /// Name of the collection that carries the messages of all namespaces. Default `socket.io-adapter-events`.
    pub collection: String,
    /// Kind of the collection. Default [`Storage::AsFound`].
    pub storage: Storage,
    /// Whether a missing collection or TTL index is created. Default on.
    pub create: bool,
    /// How long a session can be restored, like Socket.IO's `maxDisconnectionDuration`. Default 2 min.
    pub session_ttl: Duration,
    /// Limits of the queue of messages that wait to be inserted.
    pub outbox: OutboxLimits,
    /// Size limit of a message, in bytes of its document. Default, and at most, [`MAX_DOCUMENT_BYTES`]; a capped
    /// collection also limits it to its own size.
    pub max_message_bytes: usize,
    /// How long the server may take to answer. Then the operation fails; an insert is tried again. Default 10 s.
    pub response_timeout: Duration,
    /// How long the change stream may be silent before it is opened again; the server ends the silence every second.
    /// Default 5 s.
    pub stream_timeout: Duration,
}

/// The kind of the collection: how it deletes old documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Either kind, as the collection is found. A missing one is created as a capped collection of 64 MiB.
    #[default]
    AsFound,
    /// A capped collection, in which new documents replace the oldest ones.
    Capped {
        /// Size in bytes, if the collection has to be created.
        bytes: u64,
    },
    /// A collection with a TTL index on `createdAt`, as for the official adapter with `addCreatedAtField`.
    Expiring {
        /// How long documents are kept, if the index has to be created.
        after: Duration,
    },
}

impl Storage {
    /// Size of a capped collection that is created without a configured one.
    pub(crate) const DEFAULT_BYTES: u64 = 64 << 20;
}

/// Parameters of this crate. All others are the driver's.
const OWN_PARAMETERS: [&str; 11] = [
    "collection",
    "capped_bytes",
    "ttl",
    "create",
    "session_ttl",
    "outbox_bytes",
    "max_message_bytes",
    "response_timeout",
    "stream_timeout",
    "history",
    // Former names.
    ALIASES[0].0,
];

/// Former names of parameters, with today's.
const ALIASES: &[(&str, &str)] = &[("operation_timeout", "response_timeout")];

impl Config {
    /// Reads a URL: `mongodb://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?PARAMETERS` or `mongodb+srv://…`, with the
    /// parameters of the table in the [README](crate#options) and those of the driver.
    ///
    /// # Errors
    /// `Config`, naming what is wrong and what is allowed. No message contains the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (uri, mut params) = split(url);
        let parsed = ConnectionString::parse(&uri).map_err(|error| not_understood(url, &error))?;
        if parsed.write_concern.as_ref().and_then(|concern| concern.w.as_ref()) == Some(&0_u32.into()) {
            return refuse("parameter \"w\" is 0; allowed is what makes the server confirm writes");
        }
        let mut config = Self::new(uri, parsed.default_database);
        config.read(&mut params)?;
        params.finish()?;
        config.check()?;
        Ok(config)
    }

    fn new(uri: String, database: Option<String>) -> Self {
        Self {
            uri,
            provider: None,
            database: database.unwrap_or_else(|| "socket_io".into()),
            collection: "socket.io-adapter-events".into(),
            storage: Storage::AsFound,
            create: true,
            session_ttl: Duration::from_secs(120),
            outbox: OutboxLimits::default(),
            max_message_bytes: MAX_DOCUMENT_BYTES,
            response_timeout: Duration::from_secs(10),
            stream_timeout: Duration::from_secs(5),
        }
    }

    /// Asks for user and password when connecting, and before each further attempt after a failure. They take the place
    /// of those in the URL, whose `authSource` and `authMechanism` count.
    ///
    /// The driver keeps the credentials of a client, so new ones mean a new client. Connections that stand stay
    /// authenticated: MongoDB asks for credentials once per connection.
    ///
    /// ```
    /// use trunkline_mongodb::{Config, Login};
    ///
    /// # async fn password() -> Result<String, std::io::Error> { Ok("of this week".into()) }
    /// let config = Config::from_url("mongodb://db.example.com/chat?authSource=admin")?
    ///     .credentials(async || password().await.map(|password| Login::new("app", password)));
    /// # Ok::<(), trunkline_core::Error>(())
    /// ```
    #[must_use]
    pub fn credentials<F, Fut, E>(mut self, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Login, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        self.provider = Some(CredentialsProvider::new(ask));
        self
    }

    fn read(&mut self, params: &mut Params) -> Result<()> {
        params.take_lasting_history()?;
        params.read("collection", &mut self.collection)?;
        self.storage = match (params.take("capped_bytes")?, params.take("ttl")?) {
            (None, None) => self.storage,
            (Some(ByteSize(bytes)), None) => Storage::Capped { bytes: bytes as u64 },
            (None, Some(after)) => Storage::Expiring { after },
            _ => {
                return refuse(
                    "parameters \"capped_bytes\" and \"ttl\": a collection is either capped or has a TTL index",
                );
            }
        };
        params.read("create", &mut self.create)?;
        params.read("session_ttl", &mut self.session_ttl)?;
        params.read_bytes("outbox_bytes", &mut self.outbox.bytes)?;
        params.read_bytes("max_message_bytes", &mut self.max_message_bytes)?;
        params.read("response_timeout", &mut self.response_timeout)?;
        params.read("stream_timeout", &mut self.stream_timeout)
    }

    /// Refuses settings that cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        const LEAST_SILENCE: Duration = Duration::from_millis(1500);
        if self.max_message_bytes > MAX_DOCUMENT_BYTES {
            let bytes = self.max_message_bytes;
            return refuse(format!("max_message_bytes is {bytes}; a document has at most {MAX_DOCUMENT_BYTES} bytes"));
        }
        if self.stream_timeout < LEAST_SILENCE {
            let silence = self.stream_timeout;
            return refuse(format!(
                "stream_timeout is {silence:?}; the server is silent for a second, so allowed is {LEAST_SILENCE:?} and more"
            ));
        }
        for (name, time) in [("response_timeout", self.response_timeout), ("session_ttl", self.session_ttl)] {
            if time.is_zero() {
                return refuse(format!("{name} is 0; allowed is a time above that"));
            }
        }
        match self.storage {
            Storage::Capped { bytes: 0 } => refuse("capped_bytes is 0; allowed is a size above that"),
            Storage::Expiring { after } if after < Duration::from_secs(1) => {
                refuse(format!("ttl is {after:?}; allowed is 1s and more"))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn connection_string(&self) -> Result<ConnectionString> {
        ConnectionString::parse(&self.uri).map_err(|error| not_understood(&self.uri, &error))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &redact(&self.uri))
            .field("database", &self.database)
            .field("collection", &self.collection)
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

/// Splits a URL into the driver's part and the parameters of this crate.
fn split(url: &str) -> (String, Params) {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let is_own = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        OWN_PARAMETERS.contains(&&*name)
    };
    let (own, drivers): (Vec<_>, Vec<_>) = query.split('&').filter(|pair| !pair.is_empty()).partition(is_own);
    // The driver wants a slash before the parameters.
    let has_path = address.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
    let slash = if has_path { "" } else { "/" };
    let mark = if drivers.is_empty() { "" } else { "?" };
    (format!("{address}{slash}{mark}{}", drivers.join("&")), Params::parse(&own.join("&")).with_aliases(ALIASES))
}

/// The driver's complaint about a URL, without the password.
fn not_understood(url: &str, error: &mongodb::error::Error) -> Error {
    let own = OWN_PARAMETERS.join(", ");
    let reason = hide_password(url, &error.kind.to_string());
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    // Without the names that the driver does not complain of.
    let mut hints = names.filter(|name| reason.contains(*name)).map(|name| did_you_mean(name, OWN_PARAMETERS));
    let scheme = url.split(':').next().unwrap_or_default();
    let hint = match ["mongodb", "mongodb+srv"].contains(&scheme) {
        true => hints.find(|hint| !hint.is_empty()).unwrap_or_default(),
        false => did_you_mean(scheme, ["mongodb", "mongodb+srv"]),
    };
    let context = format!("{:?}: {reason}{hint} (parameters beside the driver's: {own})", redact(url));
    Error::new(ErrorKind::Config, context)
}

fn hide_password(url: &str, text: &str) -> String {
    let credentials = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    let password = credentials.and_then(|(credentials, _)| credentials.split_once(':')).map(|(_, password)| password);
    match password.filter(|password| !password.is_empty()) {
        Some(password) => {
            let plain = percent_decode_str(password).decode_utf8_lossy();
            text.replace(password, "***").replace(&*plain, "***")
        }
        None => text.to_owned(),
    }
}

fn refuse<T>(context: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Config, context))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        let error = Config::from_url(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn our_parameters_and_the_drivers_are_separated() {
        let config = Config::from_url(
            "mongodb://u:p@a:1,b:2/db?collection=events&replicaSet=rs0&ttl=1h&create=off&session_ttl=5s&authSource=admin",
        )
        .unwrap();
        assert_eq!((config.database.as_str(), config.collection.as_str()), ("db", "events"));
        assert_eq!(config.storage, Storage::Expiring { after: Duration::from_secs(3600) });
        assert!(!config.create);
        assert_eq!(config.uri, "mongodb://u:p@a:1,b:2/db?replicaSet=rs0&authSource=admin");
    }

    #[test]
    fn a_url_may_end_with_the_host() {
        let config = Config::from_url("mongodb://localhost?collection=x").unwrap();
        assert_eq!((config.database.as_str(), config.collection.as_str()), ("socket_io", "x"));
        assert_eq!(config.storage, Storage::AsFound);
        assert!(Config::from_url("mongodb+srv://cluster.example.com/chat").is_ok());
    }

    #[test]
    fn a_former_name_of_a_parameter_is_accepted() {
        let config = Config::from_url("mongodb://h/?operation_timeout=3s").unwrap();
        assert_eq!(config.response_timeout, Duration::from_secs(3));
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_is_allowed() {
        for (parameters, expected) in [
            ("capped_bytes=1MiB&ttl=1h", "either capped or has a TTL index"),
            ("ttl=200ms", "1s and more"),
            ("max_message_bytes=16MiB", "16711680"),
            ("stream_timeout=1s", "1.5s and more"),
            ("session_ttl=0s", "session_ttl is 0"),
            ("create=perhaps", "on or off"),
            ("w=0", "confirm writes"),
            ("colection=x", "did you mean \"collection\""),
            ("history=off", "always on"),
        ] {
            let text = refusal(&format!("mongodb://h/?{parameters}"));
            assert!(text.contains(expected), "{parameters}: {text}");
        }
    }

    #[test]
    fn no_error_contains_the_password() {
        for url in [
            "mongodb://u:s3cr@t@h/?replicaSet=rs0",
            "mongodb://u:s3cr%3At@h:port/",
            "mongodb://u:s3crt:x@h/",
            "mongodb://u:s3crt@h/?nothing=1",
            "mongodb://u:s3crt@/",
        ] {
            let text = refusal(url);
            assert!(!text.contains("s3cr"), "{text}");
        }
        let config = Config::from_url("mongodb://u:s3crt@h/").unwrap();
        assert!(!format!("{config:?}").contains("s3crt"));
    }
}
