//! The names of exchanges, queues and routing keys. AMQP limits each of them to 255 bytes.

use lapin::types::ShortString;
use trunkline_backend::batched;
use trunkline_core::NodeKey;

/// A token that would be longer is cut here and ends in a hash of the whole text.
const MAX_TOKEN: usize = 100;

/// Bytes of a cut token before its hash.
const KEPT: usize = 82;

/// What AMQP allows.
pub(crate) const MAX_NAME: usize = 255;

/// What the stream keeps: the messages of every namespace.
pub(crate) const EVERY_LOG: &str = "*.log";

/// What the stream keeps: the sessions of every namespace.
pub(crate) const EVERY_SESSION: &str = "*.session";

/// Text as one word of a routing key: a [token](batched::token), cut if it is long.
///
/// What would be longer than 100 bytes is its first 82 bytes, `=h`, and the 64-bit FNV-1a hash of the text in 16
/// lower-case hexadecimal digits. So different texts have different tokens, but for long ones whose hashes collide:
/// what they share is traffic, not messages, since messages name their namespace.
pub(crate) fn token(text: &str) -> String {
    let mut token = batched::token(text);
    if token.len() > MAX_TOKEN {
        token.truncate(KEPT);
        token.push_str(&format!("=h{:016x}", fnv1a(text.as_bytes())));
    }
    token
}

fn fnv1a(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// The topic exchange of a prefix.
pub(crate) fn exchange(prefix: &str) -> ShortString {
    format!("trunkline.{}", token(prefix)).into()
}

/// The queue of a node on one connection; empty, so that the broker chooses, if it would be too long.
///
/// A queue of a connection that the broker still believes in cannot be declared again, so each connection has its own.
pub(crate) fn queue(prefix: &str, node: &NodeKey, connection: &str) -> ShortString {
    let (prefix, namespace, id) = (token(prefix), token(node.namespace.as_str()), token(node.id.as_str()));
    let name = format!("trunkline.{prefix}.{namespace}.{id}.{connection}");
    ShortString::try_new(if name.len() > MAX_NAME { String::new() } else { name }).unwrap_or_default()
}

/// The stream queue of a prefix.
pub(crate) fn stream(prefix: &str) -> ShortString {
    format!("trunkline.{}.log", token(prefix)).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use trunkline_core::{Namespace, NodeId};

    use super::*;

    #[test]
    fn different_texts_have_different_tokens_and_no_token_has_a_meaning() {
        let long = ["a", "b"].map(|end| format!("{}{end}", "ä*".repeat(300)));
        let texts = ["", "=", "/", "=2F", "/a.b", "/a=2Eb", "*", "#", "a b", "ä", "/chat", "chat", "\u{0}", "-_"];
        let mut seen = HashMap::new();
        for text in texts.into_iter().chain(long.iter().map(String::as_str)) {
            let token = token(text);
            assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte)), "{token}");
            assert!((1..=MAX_TOKEN).contains(&token.len()), "{token}");
            assert_eq!(seen.insert(token.clone(), text), None, "{token}");
        }
    }

    #[test]
    fn a_queue_is_named_after_its_node_unless_that_is_too_long() {
        let node =
            |id: &str, namespace: &str| NodeKey { id: NodeId::new(id).unwrap(), namespace: Namespace::new(namespace) };
        assert_eq!(queue("my app", &node("ab", "/"), "1").as_str(), "trunkline.my=20app.=2F.ab.1");
        assert_eq!(queue("p", &node(&"x".repeat(255), &"y".repeat(300)), "0123456789abcdef-1").as_str().len(), 232);
        assert_eq!(queue(&"*".repeat(64), &node(&"x".repeat(255), &"y".repeat(300)), "1").as_str(), "");
    }
}
