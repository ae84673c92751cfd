//! Names of the streams and channels of the streams adapter.

use bytes::Bytes;
use trunkline_core::{Namespace, NodeId};

use crate::config::Streams;

/// Names of the streams and channels of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
    streams: Vec<Bytes>,
}

impl Names {
    pub(crate) fn new(prefix: &str, options: &Streams) -> Self {
        let streams = match options.count {
            1 => vec![options.stream.clone().into()],
            count => (0..count).map(|index| format!("{}-{index}", options.stream).into()).collect(),
        };
        Self { prefix: prefix.to_owned(), streams }
    }

    /// All streams.
    pub(crate) fn streams(&self) -> &[Bytes] {
        &self.streams
    }

    /// Index of the stream that holds the messages of a namespace.
    ///
    /// Where the hash is negative Node.js writes to a stream that is read by no node; there, and only there, ours is
    /// another one.
    pub(crate) fn index(&self, namespace: &Namespace) -> usize {
        hash(namespace.as_str()).unsigned_abs() as usize % self.streams.len()
    }

    /// Channel of requests to all nodes.
    pub(crate) fn public(&self, namespace: &Namespace) -> Bytes {
        format!("{}#{namespace}#", self.prefix).into()
    }

    /// Channel of answers to one node.
    pub(crate) fn private(&self, namespace: &Namespace, node: &NodeId) -> Bytes {
        format!("{}#{namespace}#{node}#", self.prefix).into()
    }
}

/// `String.hashCode` of Java, over UTF-16.
fn hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: u16) -> Names {
        Names::new("socket.io", &Streams { count, ..Streams::default() })
    }

    #[test]
    fn one_stream_has_the_bare_name() {
        assert_eq!(names(1).streams(), ["socket.io"]);
        assert_eq!(names(3).streams(), ["socket.io-0", "socket.io-1", "socket.io-2"]);
    }

    #[test]
    fn namespaces_are_spread_as_in_node_js_where_that_is_read() {
        assert_eq!(hash("/"), 47);
        assert_eq!(names(3).index(&Namespace::new("/")), 2);
        assert!(hash("/notifications") < 0);
        assert!(names(3).index(&Namespace::new("/notifications")) < 3);
    }

    #[test]
    fn channels_are_named_as_in_node_js() {
        let nsp = Namespace::new("/custom");
        assert_eq!(names(1).public(&nsp), "socket.io#/custom#");
        assert_eq!(
            names(1).private(&nsp, &NodeId::new("424b246661345cfa").unwrap()),
            "socket.io#/custom#424b246661345cfa#"
        );
    }
}
