//! Names of the parties of a cluster: nodes, namespaces, sockets and requests.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use smol_str::SmolStr;

use crate::error::{Error, Result};

/// Longest identifier that is accepted from the network, in bytes.
pub const MAX_ID_BYTES: usize = 255;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub struct $name(SmolStr);

        impl $name {
            /// Takes the text as it is; a longer one than [`MAX_ID_BYTES`] is refused.
            pub fn new(text: impl Into<SmolStr>) -> Result<Self> {
                let text = text.into();
                if text.len() > MAX_ID_BYTES {
                    return Err(Error::malformed(format!(
                        concat!(stringify!($name), " of {} bytes, allowed are {}"),
                        text.len(),
                        MAX_ID_BYTES
                    )));
                }
                Ok(Self(text))
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(SmolStr::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

macro_rules! shown_in_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0.as_str())
            }
        }
    )*};
}

text_id! {
    /// Identity of a node: one server process's membership of one namespace.
    ///
    /// Opaque text. The official adapters use 6 characters (classic Redis) or 16 hexadecimal digits.
    NodeId
}

text_id! {
    /// Links the answers of the cluster to the request that asked for them. Opaque text.
    RequestId
}

text_id! {
    /// Identity of a socket (`sid`): 20 characters on Node.js servers, 16 on socketioxide. Opaque text.
    SocketId
}

text_id! {
    /// Position of a message in a backend's history, for example a Redis stream entry id. Opaque text that
    /// travels to clients and back, as it is or as a serde string; only the backend that made it can compare two of
    /// them.
    Offset
}

text_id! {
    /// The secret by which a returning client claims its session (`pid` in Socket.IO's protocol). `Debug` does not show
    /// it; serialized, for the client, it is there.
    SessionId
}

shown_in_debug!(NodeId, RequestId, SocketId, Offset);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(***)")
    }
}

impl NodeId {
    /// The id under which emitters publish. An emitter is not a node: it is never counted and never answers.
    pub const EMITTER: Self = Self(SmolStr::new_static("emitter"));

    /// Whether this is [`NodeId::EMITTER`].
    #[must_use]
    pub fn is_emitter(&self) -> bool {
        *self == Self::EMITTER
    }
}

/// A Socket.IO namespace such as `/` or `/admin`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(SmolStr);

impl Namespace {
    /// Takes a namespace name. As in Socket.IO, a missing leading slash is added.
    #[must_use]
    pub fn new(name: &str) -> Self {
        if name.starts_with('/') { Self(SmolStr::new(name)) } else { Self(SmolStr::from_iter(["/", name])) }
    }

    /// The name, with its leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

/// Id of a node together with the namespace in which it takes part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeKey {
    /// Id of the node.
    pub id: NodeId,
    /// Namespace it joined.
    pub namespace: Namespace,
}

/// How a backend's official peers form the ids of nodes and requests.
///
/// Node.js checks neither length nor alphabet, but a peer that looks the same is easier to read in a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdScheme {
    /// 16 lower-case hexadecimal digits, a new node id per namespace.
    Hex16,
    /// 6 characters of `A-Z a-z 0-9 - _`, a new node id per namespace (classic Redis).
    Short6,
    /// One node id for all namespaces of the process (MongoDB); request ids as in [`IdScheme::Hex16`].
    Shared(NodeId),
}

impl IdScheme {
    /// A new node id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        match self {
            Self::Hex16 => NodeId(hex16()),
            Self::Short6 => NodeId(short6()),
            Self::Shared(id) => id.clone(),
        }
    }

    /// A new request id.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        match self {
            Self::Short6 => RequestId(short6()),
            Self::Hex16 | Self::Shared(_) => RequestId(hex16()),
        }
    }
}

/// 64 random bits as 16 lower-case hexadecimal digits.
fn hex16() -> SmolStr {
    SmolStr::from(format!("{:016x}", fastrand::u64(..)))
}

/// 36 random bits as 6 characters of base64url.
fn short6() -> SmolStr {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..6).map(|_| char::from(ALPHABET[fastrand::usize(..64)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_slash_is_added_to_a_namespace() {
        assert_eq!(Namespace::new("admin"), Namespace::new("/admin"));
        assert_eq!(Namespace::new("").as_str(), "/");
    }

    #[test]
    fn an_oversized_id_is_refused_with_its_length() {
        let error = NodeId::new("x".repeat(256)).unwrap_err();
        assert!(error.to_string().contains("256"), "{error}");
    }

    #[test]
    fn an_id_is_a_string_in_json_and_an_oversized_one_is_refused() {
        let offset = Offset::new("1700000000000-0").unwrap();
        let json = serde_json::to_string(&offset).unwrap();
        assert_eq!(json, r#""1700000000000-0""#);
        assert_eq!(serde_json::from_str::<Offset>(&json).unwrap(), offset);
        let error = serde_json::from_value::<Offset>("x".repeat(256).into()).unwrap_err();
        assert!(error.to_string().contains("256"), "{error}");
    }

    #[test]
    fn the_secret_of_a_session_is_not_shown() {
        assert!(!format!("{:?}", SessionId::new("s3cret").unwrap()).contains("s3cret"));
    }

    #[test]
    fn ids_follow_the_scheme_of_the_official_peers() {
        assert_eq!(IdScheme::Hex16.node_id().as_str().len(), 16);
        assert_eq!(IdScheme::Short6.request_id().as_str().len(), 6);
        let shared = IdScheme::Shared(NodeId::EMITTER);
        assert_eq!(shared.node_id(), shared.node_id());
        assert_ne!(shared.request_id(), shared.request_id());
    }
}
