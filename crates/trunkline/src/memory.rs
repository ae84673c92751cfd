//! The URL of the embedded transport: `memory://NAME?history=on`.

use trunkline_backend::url::{ByteSize, Params, redact};
use trunkline_core::{
    Error, ErrorKind, Result,
    memory::{HistoryLimits, MemoryConfig},
};

/// Name of the hub and its options in a URL: `memory:`, `memory://NAME` and the parameters of
/// [the table of URLs](crate#urls).
///
/// # Errors
/// `Config`, naming what is wrong and what is allowed.
pub(crate) fn from_url(url: &str) -> Result<(String, MemoryConfig)> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let name = match address.strip_prefix("memory:") {
        Some("" | "//") => "",
        Some(rest) => rest.strip_prefix("//").filter(|name| is_hub_name(name)).ok_or_else(|| not_a_hub(url))?,
        None => return Err(not_a_hub(url)),
    };
    let mut query = Params::parse(query);
    let defaults = HistoryLimits::default();
    let is_on = query.take("history")?.unwrap_or(false);
    let limits = HistoryLimits {
        messages: query.take("history_messages")?.unwrap_or(defaults.messages),
        bytes: query.take("history_bytes")?.map_or(defaults.bytes, |ByteSize(bytes)| bytes),
        session_ttl: query.take("session_ttl")?.unwrap_or(defaults.session_ttl),
        sessions: query.take("sessions")?.unwrap_or(defaults.sessions),
    };
    query.finish()?;
    Ok((name.to_owned(), MemoryConfig { history: is_on.then_some(limits) }))
}

fn is_hub_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
}

fn not_a_hub(url: &str) -> Error {
    let context =
        format!("{:?} names no hub; allowed are memory: and memory://NAME with letters, digits, - _ .", redact(url));
    Error::new(ErrorKind::Config, context)
}
