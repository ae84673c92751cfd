//! The `opts` of a message, `{rooms, except, flags}`: a [`Target`] on the wire.

use std::time::Duration;

use super::{
    Shape, Writer,
    reader::{Reader, set},
};
use crate::{
    error::Result,
    field,
    model::{Flags, Room, Target},
    payload::{Fault, Number, Scan},
};

/// Longest name of a room that is accepted from the network, in bytes.
pub const MAX_ROOM_BYTES: usize = Room::MAX_BYTES;

/// Writes a target as `{rooms, except, flags}`.
pub fn write(writer: &mut impl Writer, target: &Target) {
    writer.map(3, |opts| {
        opts.field(field!("rooms"));
        write_rooms(opts, &target.rooms);
        opts.field(field!("except"));
        write_rooms(opts, &target.except);
        opts.field(field!("flags"));
        write_flags(opts, &target.flags);
    });
}

/// Writes an array of rooms; number rooms are numbers.
pub fn write_rooms(writer: &mut impl Writer, rooms: &[Room]) {
    writer.begin_array(Some(rooms.len()));
    for room in rooms {
        match room {
            Room::Text(name) => writer.text(name),
            Room::Number(number) => writer.number(Number::Float(number.value())),
        }
    }
    writer.end_array(Some(rooms.len()));
}

/// Writes the flags that are set, in the order in which Node.js applications set them. `local` is never on the wire.
pub fn write_flags(writer: &mut impl Writer, flags: &Flags) {
    let set = usize::from(flags.expect_single_response)
        + usize::from(flags.volatile.is_some())
        + usize::from(flags.compress.is_some())
        + usize::from(flags.timeout.is_some());
    writer.map(set, |fields| {
        if flags.expect_single_response {
            fields.field(field!("expectSingleResponse"));
            fields.boolean(true);
        }
        if let Some(volatile) = flags.volatile {
            fields.field(field!("volatile"));
            fields.boolean(volatile);
        }
        if let Some(compress) = flags.compress {
            fields.field(field!("compress"));
            fields.boolean(compress);
        }
        if let Some(timeout) = flags.timeout {
            fields.field(field!("timeout"));
            fields.number(Number::Unsigned(milliseconds(timeout)));
        }
    });
}

/// Whole milliseconds, rounded up so that a short time does not become none.
fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Reads a target, `{rooms, except, flags}`. Each may be missing; as with the official adapters, no rooms means every
/// socket, text is the set of its characters, and flags that are no map are none. An empty array, as which PHP packs an
/// empty map, is a target without fields. An entry that is no room, as of `io.to(undefined)`, has no sockets: rooms
/// beside it count, and alone it addresses no socket.
///
/// # Errors
/// `Malformed`, naming the field.
pub fn read<'a>(reader: &mut impl Reader<'a>) -> Result<Target> {
    if reader.shape() == Ok(Shape::Array) {
        reader.skip().map_err(|fault| fault.at("opts"))?;
        return Ok(Target::default());
    }
    let (mut rooms, mut except, mut flags) = (None, None, None);
    let mut map = reader.begin_map().map_err(|fault| fault.at("opts"))?;
    while let Some(key) = reader.next_key(&mut map).map_err(|fault| fault.at("opts"))? {
        let (name, read) = match &*key {
            "rooms" => ("opts.rooms", reader.optional(RoomsField::read).and_then(|read| set(&mut rooms, read))),
            "except" => ("opts.except", reader.optional(read_except).and_then(|read| set(&mut except, read))),
            "flags" => ("opts.flags", read_flags(reader).and_then(|read| set(&mut flags, read))),
            _ => ("opts.*", reader.skip()),
        };
        read.map_err(|fault| fault.at(name))?;
    }
    let mut target =
        Target { except: except.flatten().unwrap_or_default(), flags: flags.unwrap_or_default(), ..Target::default() };
    rooms.flatten().unwrap_or_default().write_to(&mut target);
    Ok(target)
}

/// Content of `rooms`.
#[derive(Default)]
struct RoomsField {
    rooms: Vec<Room>,
    /// Whether there are entries that are no rooms.
    has_others: bool,
}

impl RoomsField {
    fn read<'a>(reader: &mut impl Reader<'a>) -> Scan<Self> {
        let mut field = Self::default();
        each_of_set(reader, |room| match room {
            Some(room) => field.rooms.push(room),
            None => field.has_others = true,
        })?;
        Ok(field)
    }

    fn write_to(self, target: &mut Target) {
        let addresses_none = self.has_others && self.rooms.is_empty();
        target.rooms = self.rooms;
        if addresses_none {
            // No rooms would be every socket; a room except the same room is none, whatever the room.
            target.rooms.push(Room::new(""));
            target.except.push(Room::new(""));
        }
    }
}

/// Reads as [`read`] does, but keeps only the room of a target that names exactly one, and allocates nothing.
pub(super) fn read_single_room<'a>(reader: &mut impl Reader<'a>) -> Scan<Option<Room>> {
    let (mut single, mut except, mut flags) = (None, None, None);
    if reader.shape()? == Shape::Array {
        return reader.skip().map(|()| None);
    }
    let mut map = reader.begin_map()?;
    while let Some(key) = reader.next_key(&mut map)? {
        match &*key {
            "rooms" => set(&mut single, reader.optional(only_room)?.flatten())?,
            "except" => set(&mut except, reader.optional(|reader| each_of_set(reader, drop))?)?,
            "flags" => set(&mut flags, read_flags(reader)?)?,
            _ => reader.skip()?,
        }
    }
    Ok(single.flatten())
}

/// Reads an array of rooms; `None` unless it has exactly one.
fn only_room<'a>(reader: &mut impl Reader<'a>) -> Scan<Option<Room>> {
    let (mut only, mut several) = (None, false);
    each_of_set(reader, |room| several |= room.is_none_or(|room| only.replace(room).is_some()))?;
    Ok(only.filter(|_| !several))
}

/// Reads an array of rooms, or a single room, of an answer or a session. Entries that are no rooms are left out, and so
/// are rooms whose names are too long: no node of ours can be asked about them.
pub fn read_known_rooms<'a>(reader: &mut impl Reader<'a>) -> Scan<Vec<Room>> {
    let mut rooms = Vec::new();
    if reader.shape()? == Shape::Array {
        reader.items(|reader| {
            rooms.extend(reader.lenient(read_room)?);
            Ok(())
        })?;
    } else {
        rooms.extend(reader.lenient(read_room)?);
    }
    Ok(rooms)
}

fn read_except<'a>(reader: &mut impl Reader<'a>) -> Scan<Vec<Room>> {
    let mut rooms = Vec::new();
    each_of_set(reader, |room| rooms.extend(room))?;
    Ok(rooms)
}

/// Reads what Node.js makes a `Set` of: an array of rooms, or text, of which each character is a room.
fn each_of_set<'a>(reader: &mut impl Reader<'a>, mut visit: impl FnMut(Option<Room>)) -> Scan<()> {
    if reader.shape()? != Shape::Text {
        return each_room(reader, visit);
    }
    let text = reader.text()?;
    let mut characters: Vec<_> = text.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    let mut buffer = [0; 4];
    characters.into_iter().for_each(|character| visit(Some(Room::new(&*character.encode_utf8(&mut buffer)))));
    Ok(())
}

/// Reads an array of rooms to join or leave, or a single room. Entries that are no rooms are left out, and so are rooms
/// whose names are too long, unless there is no other.
pub fn read_rooms<'a>(reader: &mut impl Reader<'a>) -> Scan<Vec<Room>> {
    let mut rooms = Vec::new();
    let mut has_long = false;
    each_room(reader, |room| match room {
        Some(room) if room.check().is_err() => has_long = true,
        room => rooms.extend(room),
    })?;
    if has_long && rooms.is_empty() { Err(Fault::TooLong) } else { Ok(rooms) }
}

fn each_room<'a>(reader: &mut impl Reader<'a>, mut visit: impl FnMut(Option<Room>)) -> Scan<()> {
    if reader.shape()? != Shape::Array {
        return read_any_room(reader).map(visit);
    }
    reader.items(|reader| read_any_room(reader).map(&mut visit))
}

/// Reads a room; `None` for what Node.js lets programs use as one although it is none: `undefined`, `null`, `NaN`, a
/// boolean, an object. No socket here is in such a room. Names may be longer than those of [`read_room`]: the others
/// beside one count, and left out of `except` it would widen the target.
fn read_any_room<'a>(reader: &mut impl Reader<'a>) -> Scan<Option<Room>> {
    match reader.shape()? {
        Shape::Text => Ok(Some(Room::new(reader.text()?))),
        Shape::Number => Ok(Room::number(reader.number()?.as_f64())),
        _ => reader.skip().map(|()| None),
    }
}

/// Reads a room: text of at most [`MAX_ROOM_BYTES`], or a finite number.
pub fn read_room<'a>(reader: &mut impl Reader<'a>) -> Scan<Room> {
    if reader.shape()? == Shape::Number {
        return Room::number(reader.number()?.as_f64()).ok_or(Fault::Range);
    }
    let name = reader.text()?;
    if name.len() > MAX_ROOM_BYTES { Err(Fault::TooLong) } else { Ok(Room::new(name)) }
}

/// Reads flags. Unknown ones and those of another type are left out, and so is `local`. What is no map has none.
pub fn read_flags<'a>(reader: &mut impl Reader<'a>) -> Scan<Flags> {
    let mut flags = Flags::default();
    if reader.shape()? != Shape::Map {
        return reader.skip().map(|()| flags);
    }
    let mut map = reader.begin_map()?;
    while let Some(key) = reader.next_key(&mut map)? {
        match &*key {
            "volatile" => flags.volatile = reader.lenient(Reader::boolean)?,
            "compress" => flags.compress = reader.lenient(Reader::boolean)?,
            "timeout" => flags.timeout = reader.lenient(Reader::number)?.and_then(duration),
            "expectSingleResponse" => flags.expect_single_response = reader.lenient(Reader::boolean)? == Some(true),
            _ => reader.skip()?,
        }
    }
    Ok(flags)
}

/// Reads any value as JavaScript's conditions take it.
pub fn read_condition<'a>(reader: &mut impl Reader<'a>) -> Scan<bool> {
    match reader.shape()? {
        Shape::Null => reader.skip().map(|()| false),
        Shape::Boolean => reader.boolean(),
        Shape::Number => reader.number().map(|number| number.as_f64() != 0.0 && !number.as_f64().is_nan()),
        Shape::Text => reader.text().map(|text| !text.is_empty()),
        _ => reader.skip().map(|()| true),
    }
}

/// Converts milliseconds; `None` if they are negative or too many.
fn duration(milliseconds: Number) -> Option<Duration> {
    match milliseconds.as_u64() {
        Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
        None => Duration::try_from_secs_f64(milliseconds.as_f64() / 1000.0).ok(),
    }
}
