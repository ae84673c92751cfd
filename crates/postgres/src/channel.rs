//! Names of notification channels.

use trunkline_core::{Error, ErrorKind, Namespace, Result};

/// Longest name of a channel in bytes. `LISTEN` cuts off what is longer, `pg_notify` refuses it.
const MAX_BYTES: usize = 63;

/// Longest prefix in bytes: it leaves space for the `#`, some of the namespace and the hash.
pub(crate) const MAX_PREFIX_BYTES: usize = 40;

/// Encoding of a database, as far as it matters which texts it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// UTF-8, or bytes that the server does not look at (`SQL_ASCII`).
    Any,
    Latin1,
    /// ASCII, and some characters beyond it.
    Other,
}

impl Encoding {
    /// The encoding with this name in `server_encoding`.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "UTF8" | "SQL_ASCII" => Self::Any,
            "LATIN1" => Self::Latin1,
            _ => Self::Other,
        }
    }

    /// Whether a name may have this character. Where that is not known here, the server decides.
    fn holds(self, character: char) -> bool {
        self != Self::Latin1 || u32::from(character) <= 0xff
    }
}

/// Channel of a namespace, `<prefix>#<namespace>` as the official adapter has it.
///
/// The official adapter cannot use namespaces whose channel would be too long, or has characters that the database does
/// not hold. Among our own nodes their name lacks these, is cut and ends in a hash of the whole; should two share it,
/// each drops the other's messages by their namespace.
pub(crate) fn name(prefix: &str, namespace: &Namespace, encoding: Encoding) -> Result<String> {
    if namespace.as_str().contains('\0') {
        return Err(Error::new(ErrorKind::Unsupported, "a namespace with a NUL character has no channel"));
    }
    let full = format!("{prefix}#{namespace}");
    let held: String = full.chars().filter(|character| encoding.holds(*character)).collect();
    if full.len() <= MAX_BYTES && held == full {
        return Ok(full);
    }
    let suffix = format!("~{:016x}", hash(&full));
    let cut = held.floor_char_boundary(MAX_BYTES - suffix.len());
    Ok(format!("{}{suffix}", &held[..cut]))
}

/// Channel on which a transport notifies itself. No namespace has it: it is without `#`.
pub(crate) fn of_ping(name: &str) -> String {
    format!("trunkline-probe-{name}")
}

/// The channel as an identifier in SQL.
pub(crate) fn quoted(channel: &str) -> String {
    format!("\"{}\"", channel.replace('"', "\"\""))
}

/// FNV-1a: short, and the same on all nodes for ever.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(namespace: &str) -> String {
        name("socket.io", &Namespace::new(namespace), Encoding::Any).unwrap()
    }

    #[test]
    fn channels_are_named_as_by_the_official_adapter() {
        assert_eq!(of("/"), "socket.io#/");
        assert_eq!(of("custom"), "socket.io#/custom");
        assert_eq!(of(&"x".repeat(52)).len(), MAX_BYTES);
    }

    #[test]
    fn long_names_are_told_apart_within_the_limit() {
        let long = "x".repeat(53);
        let longer = "x".repeat(500);
        for namespace in [&long, &longer] {
            assert_eq!(of(namespace).len(), MAX_BYTES);
            assert!(of(namespace).starts_with("socket.io#/xxx"));
        }
        assert_ne!(of(&long), of(&longer));
        assert_eq!(of(&long), of(&long));
    }

    #[test]
    fn characters_are_not_cut_in_two() {
        let name = of(&"é".repeat(40));
        assert!(name.len() <= MAX_BYTES && name.contains('~'), "{name}");
    }

    #[test]
    fn characters_that_the_database_does_not_hold_are_hashed() {
        let latin1 = |namespace| name("socket.io", &Namespace::new(namespace), Encoding::named("LATIN1")).unwrap();
        assert_eq!(latin1("/café"), "socket.io#/café");
        let [one, other] = ["/😀", "/😁"].map(latin1);
        assert!(one.is_ascii() && one.starts_with("socket.io#/~"), "{one}");
        assert_ne!(one, other);
        assert_eq!(of("/😀"), "socket.io#/😀");
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert!(name("p", &Namespace::new("a\0b"), Encoding::Any).is_err());
    }
}
