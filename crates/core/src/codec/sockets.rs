//! Sockets in answers to `fetchSockets()`: `{id, handshake, rooms, data}`.

use super::{
    Writer, opts,
    reader::{Reader, set},
};
use crate::{
    error::{Error, Result},
    field,
    model::{Room, SocketId, SocketInfo},
    payload::{Fault, Payload, Scan},
};

/// Writes one socket. An unknown handshake has all fields, and unknown data becomes an empty object: code in Node.js looks
/// into both.
///
/// # Errors
/// A payload whose JSON was never valid.
pub fn write(writer: &mut impl Writer, socket: &SocketInfo) -> Scan<()> {
    writer.map(4, |fields| {
        fields.field(field!("id"));
        fields.text(socket.id.as_str());
        fields.field(field!("handshake"));
        match &socket.handshake {
            Some(handshake) => fields.payload(handshake)?,
            None => fields.payload(&SocketInfo::unknown_handshake())?,
        }
        fields.field(field!("rooms"));
        opts::write_rooms(fields, &socket.rooms);
        fields.field(field!("data"));
        match &socket.data {
            Some(data) => fields.payload(data),
            None => {
                fields.map(0, |_| ());
                Ok(())
            }
        }
    })
}

/// Reads an array of sockets. An entry that is none, because it has no id that can be one, is left out.
///
/// # Errors
/// `Malformed` if the entries cannot be told apart.
pub fn read_all<'a>(reader: &mut impl Reader<'a>) -> Result<Vec<SocketInfo>> {
    let at = |fault: Fault| fault.at("sockets");
    let mut sockets = Vec::new();
    let mut array = reader.begin_array().map_err(at)?;
    while reader.next_item(&mut array).map_err(at)? {
        sockets.extend(reader.lenient(|reader| read(reader).map_err(|_| Fault::Unexpected)).map_err(at)?);
    }
    Ok(sockets)
}

/// Reads one socket. Only its id must be there; of the rest what cannot be read is left out: clients choose their
/// rooms' names, and much of their handshake. The answering node is not part of it.
///
/// # Errors
/// `Malformed`, naming the field.
pub fn read<'a>(reader: &mut impl Reader<'a>) -> Result<SocketInfo> {
    let mut fields = Fields::default();
    let mut map = reader.begin_map().map_err(|fault| fault.at("sockets[]"))?;
    while let Some(key) = reader.next_key(&mut map).map_err(|fault| fault.at("sockets[]"))? {
        fields.read(reader, &key)?;
    }
    Ok(SocketInfo {
        id: fields.id.ok_or_else(|| Fault::Missing.at("sockets[].id"))?,
        node: None,
        rooms: fields.rooms.flatten().unwrap_or_default(),
        handshake: fields.handshake.flatten(),
        data: fields.data.flatten(),
    })
}

#[derive(Default)]
struct Fields {
    id: Option<SocketId>,
    handshake: Option<Option<Payload>>,
    rooms: Option<Option<Vec<Room>>>,
    data: Option<Option<Payload>>,
}

impl Fields {
    fn read<'a>(&mut self, reader: &mut impl Reader<'a>, key: &str) -> Result<(), Error> {
        let (name, read) = match key {
            "id" => ("sockets[].id", read_id(reader).and_then(|id| set(&mut self.id, id))),
            "handshake" => ("sockets[].handshake", value(reader).and_then(|read| set(&mut self.handshake, read))),
            "rooms" => {
                ("sockets[].rooms", reader.optional(opts::read_known_rooms).and_then(|read| set(&mut self.rooms, read)))
            }
            "data" => ("sockets[].data", value(reader).and_then(|read| set(&mut self.data, read))),
            _ => ("sockets[].*", reader.skip_unchecked()),
        };
        read.map_err(|fault| fault.at(name))
    }
}

/// Reads the id of a socket.
///
/// # Errors
/// `TooLong`, or `Unexpected` for what is no text.
pub fn read_id<'a>(reader: &mut impl Reader<'a>) -> Scan<SocketId> {
    SocketId::new(reader.text()?).map_err(|_| Fault::TooLong)
}

/// Reads a value; `None` for null, and for what a payload cannot hold, such as what is nested too deeply.
fn value<'a>(reader: &mut impl Reader<'a>) -> Scan<Option<Payload>> {
    reader.optional(|reader| reader.lenient(Reader::payload)).map(Option::flatten)
}
