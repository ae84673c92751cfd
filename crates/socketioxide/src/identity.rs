//! Conversion of socket ids of other servers into socketioxide's fixed format.
//!
//! socketioxide describes a remote socket by two ids of exactly 16 characters, the socket's and its server's, and hands
//! both back when the application uses it. Ids of Node.js sockets have 20 characters (and any length if the server
//! makes its own). So that no table of them has to be kept, a longer or shorter id is split over the two: the socket's
//! id takes the first 16 characters, and the server's id becomes `-id`, one character for the length, and the rest,
//! filled up with `-`:
//!
//! ```text
//! 6v5U7ECleH3bY-hqAAAC  →  6v5U7ECleH3bY-hq  -idUAAAC--------
//! ```

use std::str::FromStr;

use socketioxide_core::{Sid, Str, Uid, adapter::RemoteSocketData};
use trunkline_core::{NodeId, SocketId, SocketInfo};

/// The full id of a fetched socket, as its own server knows it: that of a Node.js socket has 20 characters, of which
/// `data.id` holds only 16.
#[must_use]
pub fn remote_id(data: &RemoteSocketData) -> String {
    socket_id(data.id, Some(data.server_id))
}

/// Converts a fetched socket into socketioxide's description; `None` if its id is longer than 28 characters or has
/// others than `A-Z a-z 0-9 - _`.
#[must_use]
pub fn remote_socket(info: &SocketInfo, namespace: Str) -> Option<RemoteSocketData> {
    let (id, server_id) = split(&info.id, info.node.as_ref())?;
    Some(RemoteSocketData { id, server_id, ns: namespace })
}

/// The whole id of a socket whose id may be split over the two.
pub(crate) fn socket_id(id: Sid, server: Option<Uid>) -> String {
    let whole = server.and_then(|server| {
        let [b'-', b'i', b'd', length, rest @ ..] = server.as_str().as_bytes() else { return None };
        let length = ALPHABET.iter().position(|character| character == length)?;
        let all = [id.as_str().as_bytes(), rest].concat();
        String::from_utf8(all.get(..length)?.to_vec()).ok()
    });
    whole.unwrap_or_else(|| id.as_str().to_owned())
}

fn split(id: &SocketId, node: Option<&NodeId>) -> Option<(Sid, Uid)> {
    let id = id.as_str();
    if id.len() == SID {
        return Some((Sid::from_str(id).ok()?, server(node)));
    }
    let length = char::from(*ALPHABET.get(id.len()).filter(|_| id.len() <= SID + REST)?);
    let (head, rest) = id.split_at_checked(SID).unwrap_or((id, ""));
    let sid = Sid::from_str(&format!("{head:-<SID$}")).ok()?;
    let uid = Uid::from_str(&format!("-id{length}{rest:-<REST$}")).ok()?;
    Some((sid, uid))
}

/// A node's id, filled up to the length of socketioxide's server ids. It only distinguishes nodes: none is addressed by
/// it.
fn server(node: Option<&NodeId>) -> Uid {
    let uid = filled_up(node.map_or("", NodeId::as_str)).unwrap_or_else(unknown);
    if uid.as_str().starts_with("-id") { unknown() } else { uid }
}

fn filled_up(node: &str) -> Option<Uid> {
    let mut id = [b'-'; SID];
    id.get_mut(..node.len())?.copy_from_slice(node.as_bytes());
    Uid::from_str(str::from_utf8(&id).ok()?).ok()
}

fn unknown() -> Uid {
    Uid::from_str("----------------").unwrap_or(Uid::ZERO)
}

/// Characters of a socket's and a server's id in socketioxide.
const SID: usize = 16;

/// Characters of an id that fit into the server's id.
const REST: usize = 12;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(id: &str, node: Option<&str>) -> Option<String> {
        let info = SocketInfo::new(SocketId::new(id).unwrap(), Vec::new())
            .with_node(node.map(|node| NodeId::new(node).unwrap()));
        remote_socket(&info, "/".into()).map(|data| remote_id(&data))
    }

    #[test]
    fn ids_of_any_usual_length_survive() {
        for id in
            ["6v5U7ECleH3bY-hqAAAC", "AA9AAA0AAzAAAAHs", "x", "", "seventeen_letters", "an-id-of-twenty-eight-letters"]
        {
            let id = &id[..id.len().min(28)];
            assert_eq!(there_and_back(id, Some("424b246661345cfa")).as_deref(), Some(id), "{id:?}");
        }
    }

    #[test]
    fn an_id_that_cannot_be_addressed_is_left_out() {
        assert_eq!(there_and_back("a-socket-id-with-more-than-twenty-eight", None), None);
        assert_eq!(there_and_back("späte-id-mit-umlaut", None), None);
    }

    #[test]
    fn no_node_id_is_mistaken_for_a_part_of_a_socket_id() {
        for node in ["xlamnx", "-idUAAAC--------", "-id", "späte", "", "a-node-id-with-more-than-sixteen"] {
            assert_eq!(there_and_back("AA9AAA0AAzAAAAHs", Some(node)).as_deref(), Some("AA9AAA0AAzAAAAHs"), "{node:?}");
        }
        assert_eq!(server(Some(&NodeId::new("424b246661345cfa").unwrap())).as_str(), "424b246661345cfa");
    }

    #[test]
    fn the_id_of_a_local_socket_stays_as_it_is() {
        let sid = Sid::from_str("AA9AAA0AAzAAAAHs").unwrap();
        assert_eq!(socket_id(sid, None), "AA9AAA0AAzAAAAHs");
        assert_eq!(socket_id(sid, Some(Uid::new())), "AA9AAA0AAzAAAAHs");
    }
}
