//! The names of subjects.

use async_nats::Subject;
use trunkline_backend::rooms::{Bucket, Buckets};
use trunkline_core::{Error, ErrorKind, Namespace, NodeId, Result, SessionId};

/// Text as one token of a subject, without the characters that have a meaning there, nor those that some part of NATS refuses in names.
///
/// Letters, digits, `-` and `_` stay; every other byte becomes `=` and two hexadecimal digits; nothing becomes a single `=`. Different
/// texts have different tokens.
pub(crate) fn token(text: &str) -> String {
    if text.is_empty() {
        return "=".into();
    }
    let mut token = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            token.push('=');
            token.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
    }
    token
}

/// The subjects of one namespace: `prefix.namespace.…`.
#[derive(Debug)]
pub(crate) struct Subjects {
    base: String,
    /// What every node receives.
    pub(crate) all: Subject,
    /// What the history keeps.
    pub(crate) log: Subject,
    rooms: Vec<Subject>,
}

impl Subjects {
    pub(crate) fn new(prefix: &str, namespace: &Namespace, buckets: Buckets) -> Result<Self> {
        let base = format!("{}.{}", token(prefix), token(namespace.as_str()));
        if base.len() > MAX_BASE {
            let context =
                format!("the namespace's name takes {} bytes in a subject, allowed are {MAX_BASE}", base.len());
            return Err(Error::new(ErrorKind::Config, context));
        }
        let rooms = buckets.iter().map(|bucket| format!("{base}.room.{}", bucket.number()).into()).collect();
        Ok(Self { all: format!("{base}.all").into(), log: format!("{base}.log").into(), rooms, base })
    }

    /// What only nodes with a room in the bucket receive.
    pub(crate) fn room(&self, bucket: Bucket) -> Subject {
        // A bucket out of range cannot be: it comes from the same number of buckets.
        self.rooms.get(usize::from(bucket.number())).unwrap_or(&self.all).clone()
    }

    /// Where a session lies.
    pub(crate) fn session(&self, id: &SessionId) -> String {
        format!("{}.session.{}", self.base, token(id.as_str()))
    }

    /// What only one node receives.
    pub(crate) fn node(&self, node: &NodeId) -> Subject {
        format!("{}.node.{}", self.base, token(node.as_str())).into()
    }
}

/// A server refuses lines of more than 4,096 bytes by default, and the longest of ours also names a node.
const MAX_BASE: usize = 2048;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn different_texts_have_different_tokens_and_no_token_has_a_meaning() {
        let texts = ["", "=", "/", "=2F", "/a.b", "/a=2Eb", "*", ">", "a b", "ä", "/chat", "chat", "\u{0}", "-_"];
        let mut seen = HashMap::new();
        for text in texts {
            let token = token(text);
            assert!(
                !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte))
            );
            assert_eq!(seen.insert(token.clone(), text), None, "{token}");
        }
    }

    #[test]
    fn subjects_have_a_fixed_number_of_tokens() {
        let buckets = Buckets::DEFAULT;
        let subjects = Subjects::new("my.app", &Namespace::new("/"), buckets).unwrap();
        assert_eq!(subjects.all.as_str(), "my=2Eapp.=2F.all");
        let bucket = buckets.of(&"r".into()).unwrap();
        assert_eq!(subjects.room(bucket).as_str(), format!("my=2Eapp.=2F.room.{}", bucket.number()));
        assert_eq!(subjects.node(&NodeId::new("a.b").unwrap()).as_str(), "my=2Eapp.=2F.node.a=2Eb");
    }

    #[test]
    fn an_overlong_namespace_is_refused_and_not_cut() {
        let namespace = Namespace::new(&"x".repeat(3000));
        assert!(Subjects::new("p", &namespace, Buckets::DEFAULT).unwrap_err().to_string().contains("allowed are 2048"));
    }
}
