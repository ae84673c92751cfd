//! Names of the channels of `@socket.io/redis-adapter`.

use bytes::Bytes;
use trunkline_core::{Namespace, NodeId, Room};

use crate::subscribe::Topic;

/// Names of the channels of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Channel of broadcasts to no room or to several.
    pub(crate) fn broadcast(&self, namespace: &Namespace) -> Bytes {
        self.name(&["#", namespace.as_str(), "#"])
    }

    /// Channel of broadcasts to one room.
    pub(crate) fn room(&self, namespace: &Namespace, room: &Room) -> Bytes {
        self.name(&["#", namespace.as_str(), "#", &room.to_text(), "#"])
    }

    /// Pattern of all broadcasts of a namespace. Node.js forgets that a namespace may contain what has a meaning in a
    /// pattern.
    pub(crate) fn broadcasts(&self, namespace: &Namespace) -> Topic {
        Topic::Pattern(format!("{}#{}#*", escape(&self.prefix), escape(namespace.as_str())).into())
    }

    pub(crate) fn request(&self, namespace: &Namespace) -> Bytes {
        self.name(&["-request#", namespace.as_str(), "#"])
    }

    pub(crate) fn response(&self, namespace: &Namespace) -> Bytes {
        self.name(&["-response#", namespace.as_str(), "#"])
    }

    /// Channel of answers to one node.
    pub(crate) fn private(&self, namespace: &Namespace, node: &NodeId) -> Bytes {
        self.name(&["-response#", namespace.as_str(), "#", node.as_str(), "#"])
    }

    /// What contains the broadcasts of a namespace to no room or to several.
    pub(crate) fn unnamed_broadcasts(&self, namespace: &Namespace) -> Topic {
        Topic::Channel(self.broadcast(namespace))
    }

    fn name(&self, parts: &[&str]) -> Bytes {
        let mut name = self.prefix.clone();
        parts.iter().for_each(|part| name.push_str(part));
        name.into()
    }
}

/// Escapes the characters that have a meaning in a pattern.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_named_as_in_node_js() {
        let names = Names::new("socket.io");
        let nsp = Namespace::new("/custom");
        assert_eq!(names.broadcast(&nsp), "socket.io#/custom#");
        assert_eq!(names.room(&nsp, &Room::from("é")), "socket.io#/custom#é#");
        assert_eq!(names.room(&nsp, &Room::from(42)), "socket.io#/custom#42#");
        assert_eq!(names.request(&nsp), "socket.io-request#/custom#");
        assert_eq!(names.response(&nsp), "socket.io-response#/custom#");
        assert_eq!(names.private(&nsp, &NodeId::new("abc123").unwrap()), "socket.io-response#/custom#abc123#");
        assert_eq!(names.broadcasts(&nsp), Topic::Pattern("socket.io#/custom#*".into()));
        assert_eq!(names.broadcasts(&Namespace::new("/a[b]*")), Topic::Pattern(r"socket.io#/a\[b\]\*#*".into()));
    }
}
