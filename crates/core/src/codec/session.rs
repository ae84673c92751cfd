//! Sessions of connection state recovery, as a history stores them: `{id, handshake, rooms, data}` of the socket in
//! MessagePack. The session id is the key in the store and not part of the value.

use bytes::Bytes;

use crate::{
    codec::{JsonReader, MsgPackReader, sockets},
    error::{Error, Result},
    model::{Session, SessionId, SocketInfo},
    payload::{ByteString, Payload, Rules, msgpack},
};

/// Encodes a session, without its id.
///
/// # Errors
/// `Malformed` for data whose JSON was never valid.
pub fn encode(session: Session) -> Result<Vec<u8>> {
    let Session { socket, rooms, data, .. } = session;
    // Sessions keep no handshake: the client that comes back brings another.
    let handshake = Some(Payload::from_trusted_json("{}", Vec::new()));
    let socket = SocketInfo { id: socket, node: None, rooms, handshake, data };
    let mut bytes = Vec::new();
    sockets::write(&mut msgpack::Writer::new(&mut bytes, Rules::MsgpackJs), &socket)
        .map_err(|fault| fault.at("session"))?;
    Ok(bytes)
}

/// Decodes the session with the given id, from MessagePack or JSON.
///
/// # Errors
/// `Malformed`, naming the field.
pub fn decode(id: &SessionId, bytes: &Bytes) -> Result<Session> {
    let SocketInfo { id: socket, rooms, data, .. } = if bytes.first() == Some(&b'{') {
        let text = ByteString::try_from(bytes.clone());
        let text = text.map_err(|error| Error::malformed("session: not UTF-8").with_source(error))?;
        sockets::read(&mut JsonReader::new(&text))?
    } else {
        sockets::read(&mut MsgPackReader::new(bytes))?
    };
    Ok(Session { id: id.clone(), socket, rooms, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Room, SocketId};

    #[test]
    fn a_session_comes_back_as_it_was() {
        let session = Session {
            id: SessionId::new("secret").unwrap(),
            socket: SocketId::new("socket").unwrap(),
            rooms: vec!["a".into(), Room::from(42)],
            data: Some(Payload::value(&[1, 2]).unwrap()),
        };
        let bytes = Bytes::from(encode(session.clone()).unwrap());
        assert_eq!(decode(&session.id, &bytes).unwrap(), session);
        assert!(decode(&session.id, &Bytes::from_static(b"{\"id\":1}")).is_err());
    }
}
