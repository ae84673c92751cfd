//! URL schemes and the backends they pick.

use trunkline_backend::url::{did_you_mean, redact};
use trunkline_core::{Error, ErrorKind, Result};

/// A backend that a scheme picks, whether it is compiled in or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Memory,
    MongoDb,
    Nats,
    Postgres,
    RabbitMq,
    Redis,
}

/// What picks a backend, which feature compiles it in, and whether it did.
struct Entry {
    name: &'static str,
    scheme: Scheme,
    feature: &'static str,
    is_on: bool,
}

macro_rules! entry {
    ($name:literal, $scheme:ident, $feature:literal) => {
        Entry { name: $name, scheme: Scheme::$scheme, feature: $feature, is_on: cfg!(feature = $feature) }
    };
}

const SCHEMES: &[Entry] = &[
    entry!("memory", Memory, "memory"),
    entry!("mongodb", MongoDb, "mongodb"),
    entry!("mongodb+srv", MongoDb, "mongodb"),
    entry!("nats", Nats, "nats"),
    entry!("tls", Nats, "nats"),
    entry!("postgres", Postgres, "postgres"),
    entry!("postgresql", Postgres, "postgres"),
    entry!("amqp", RabbitMq, "rabbitmq"),
    entry!("amqps", RabbitMq, "rabbitmq"),
    entry!("redis", Redis, "redis"),
    entry!("rediss", Redis, "redis"),
    entry!("redis+unix", Redis, "redis"),
    entry!("valkey", Redis, "redis"),
    entry!("valkeys", Redis, "redis"),
];

impl Scheme {
    pub(crate) fn of(url: &str) -> Result<Self> {
        let Some((name, _)) = url.split_once(':') else {
            return Err(refusal(&format!("{:?} has no scheme", redact(url))));
        };
        let entry = SCHEMES.iter().find(|entry| entry.name == name);
        let names = || SCHEMES.iter().map(|entry| entry.name);
        let hint = || elsewhere(name).unwrap_or_else(|| did_you_mean(name, names()));
        let unknown = || refusal(&format!("unknown scheme {name:?}{}", hint()));
        entry.map(|entry| entry.scheme).ok_or_else(unknown)
    }

    pub(crate) fn feature_is_off(self) -> Error {
        let entry = SCHEMES.iter().find(|entry| entry.scheme == self);
        let (name, feature) = entry.map_or(("", ""), |entry| (entry.name, entry.feature));
        refusal(&format!("scheme {name:?} needs the feature {feature:?} of the crate trunkline, which is off"))
    }
}

/// A scheme of other clients as it is written here, or one of ours in capitals.
fn elsewhere(name: &str) -> Option<String> {
    let lower = name.trim().to_ascii_lowercase();
    let (scheme, parameter) = match &*lower {
        "redis+sentinel" | "redis-sentinel" => ("redis", "://…?sentinel=NAME"),
        "rediss+sentinel" | "rediss-sentinel" => ("rediss", "://…?sentinel=NAME"),
        "redis+cluster" | "redis-cluster" => ("redis", "://…?cluster=on"),
        "rediss+cluster" | "rediss-cluster" => ("rediss", "://…?cluster=on"),
        "unix" | "redis-socket" => ("redis+unix", ""),
        "nats+tls" => ("tls", ""),
        "rabbitmq" => ("amqp", ""),
        other => (other, ""),
    };
    let is_known = SCHEMES.iter().any(|entry| entry.name == scheme);
    is_known.then(|| format!("; did you mean {:?}?", format!("{scheme}{parameter}")))
}

/// An error that lists the schemes that work in this build, and those that would with their feature.
fn refusal(reason: &str) -> Error {
    let names = |is_on| {
        let entries = SCHEMES.iter().filter(move |entry| entry.is_on == is_on);
        entries.map(|entry| entry.name).collect::<Vec<_>>().join(", ")
    };
    let mut context = format!("{reason}; allowed are {}", names(true));
    if SCHEMES.iter().any(|entry| !entry.is_on) {
        context.push_str(&format!(" (with their features also {})", names(false)));
    }
    Error::new(ErrorKind::Config, context)
}
