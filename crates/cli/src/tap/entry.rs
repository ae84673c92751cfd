//! [`Entry`]: what is told of one message.

use jiff::Zoned;
use serde_json::{Value, json};
use trunkline::{
    Payload, Room, Target,
    core::{Answer, Message, model::Delivery},
};

use super::listener::Heard;
use crate::{
    emit::json_value,
    options::{EntryType, TapOptions},
    output::{counted, shown},
};

/// What is told of one message, or of messages that are missing.
#[derive(Debug)]
pub(crate) struct Entry {
    at: Zoned,
    pub(crate) sender: Option<String>,
    pub(crate) kind: EntryType,
    namespace: String,
    /// Rooms that it is for; none if for all.
    pub(crate) rooms: Vec<String>,
    except: Vec<String>,
    pub(crate) event: Option<String>,
    /// Bytes of the payload.
    pub(crate) bytes: usize,
    number: Option<u64>,
    /// What else there is to say: rooms that are joined, what is missing.
    note: String,
    payload: Option<Payload>,
}

impl Entry {
    /// A line of the program itself, which concerns no message.
    pub(crate) fn note(kind: EntryType, namespace: &str, sender: Option<String>, note: String) -> Self {
        Self {
            at: Zoned::now(),
            sender,
            kind,
            namespace: namespace.to_owned(),
            rooms: Vec::new(),
            except: Vec::new(),
            event: None,
            bytes: 0,
            number: None,
            note,
            payload: None,
        }
    }

    /// What a delivery tells; nothing if it concerns the transport only.
    pub(crate) fn of(heard: &Heard) -> Option<Self> {
        let namespace = heard.namespace.as_str();
        match &heard.delivery {
            Delivery::Message { from, seq_no, message, .. } => {
                let sender = from.as_ref().map(ToString::to_string);
                let number = seq_no.map(|seq_no| seq_no.number);
                Some(Self { number, ..Self::of_message(namespace, sender, message) })
            }
            Delivery::Response { from, response } => {
                let (note, payload) = about_answer(&response.answer);
                let note = format!("to request {}: {note}", response.request);
                let sender = from.as_ref().map(ToString::to_string);
                let bytes = payload.as_ref().map_or(0, Payload::len);
                Some(Self { payload, bytes, ..Self::note(EntryType::Answer, namespace, sender, note) })
            }
            Delivery::Gap(gap) => Some(Self::note(EntryType::Gap, namespace, None, gap.to_string())),
            Delivery::Overflow(overflow) => {
                let note = format!(
                    "{} dropped here: more than this program can show",
                    counted(overflow.missed as usize, "message")
                );
                Some(Self::note(EntryType::Gap, namespace, None, note))
            }
            Delivery::Lost(reason) => {
                let note = format!("the connection to the broker is lost: {reason}");
                Some(Self::note(EntryType::Gap, namespace, None, note))
            }
            _ => None,
        }
    }

    fn of_message(namespace: &str, sender: Option<String>, message: &Message) -> Self {
        let (kind, target, payload, note) = match message {
            Message::Broadcast { request, target, payload } => {
                let note = if request.is_some() { "wants acknowledgements" } else { "" };
                (EntryType::Broadcast, Some(target), Some(payload), note.to_owned())
            }
            Message::Join { target, rooms } => {
                (EntryType::Join, Some(target), None, format!("joins {}", names(rooms).join(", ")))
            }
            Message::Leave { target, rooms } => {
                (EntryType::Leave, Some(target), None, format!("leaves {}", names(rooms).join(", ")))
            }
            Message::Disconnect { target, close } => {
                let note = if *close { "closes the connections too" } else { "" };
                (EntryType::Disconnect, Some(target), None, note.to_owned())
            }
            Message::FetchSockets { target, .. } => (EntryType::FetchSockets, Some(target), None, String::new()),
            Message::AllRooms { .. } => (EntryType::Rooms, None, None, String::new()),
            Message::ServerSideEmit { request, payload } => {
                let note = if request.is_some() { "wants answers" } else { "" };
                (EntryType::ServerEmit, None, Some(payload), note.to_owned())
            }
            Message::Heartbeat(heartbeat) => {
                let note = if heartbeat.initial { "asks for those of others" } else { "" };
                (EntryType::Heartbeat, None, None, note.to_owned())
            }
            Message::Leaving => (EntryType::Leaving, None, None, String::new()),
        };
        // A mark only takes a place in the history.
        let kind = if target.is_some_and(Target::is_mark) { EntryType::Mark } else { kind };
        Self {
            rooms: target.map(|target| names(&target.rooms)).unwrap_or_default(),
            except: target.map(|target| names(&target.except)).unwrap_or_default(),
            event: payload.and_then(|payload| payload.event_name().map(Into::into)),
            bytes: payload.map_or(0, Payload::len),
            payload: payload.cloned(),
            ..Self::note(kind, namespace, sender, note)
        }
    }

    /// Whether it was asked for. Gaps concern all that follows.
    pub(crate) fn is_wanted(&self, options: &TapOptions) -> bool {
        matches!(self.kind, EntryType::Gap | EntryType::Latency)
            || (has_any(&options.room, &self.rooms)
                && has_any(&options.event, self.event.as_slice())
                && has_any(&options.sender, self.sender.as_slice())
                && (options.kind.is_empty() || options.kind.contains(&self.kind)))
    }

    /// One line for people.
    pub(crate) fn text(&self, with_payload: bool, colour: bool) -> String {
        let mut line = format!(
            "{}  {:16}  {:13}  {}",
            self.at.strftime("%H:%M:%S%.3f"),
            shown(self.sender.as_deref().unwrap_or("-")),
            self.kind.name(),
            shown(&self.namespace)
        );
        let mut add = |text: String| {
            line.push_str("  ");
            line.push_str(&text);
        };
        if let Some(event) = &self.event {
            add(format!("{:?}", shown(event)));
        }
        if !self.rooms.is_empty() && self.kind != EntryType::Mark {
            add(format!("to {}", shown(&self.rooms.join(", "))));
        }
        if !self.except.is_empty() && self.kind != EntryType::Mark {
            add(format!("except {}", shown(&self.except.join(", "))));
        }
        if self.bytes > 0 {
            add(format!("{} B", self.bytes));
        }
        if let Some(number) = self.number {
            add(format!("no. {number}"));
        }
        if !self.note.is_empty() {
            add(shown(&self.note));
        }
        if with_payload && self.payload.is_some() {
            add(shown(&json_value(self.payload.as_ref()).to_string()));
        }
        let is_gap = matches!(self.kind, EntryType::Silent | EntryType::Gap);
        if colour && is_gap { format!("\x1b[31m{line}\x1b[0m") } else { line }
    }

    pub(crate) fn json(&self, with_payload: bool) -> Value {
        let mut json = json!({
            "time": self.at.timestamp().to_string(), "sender": self.sender, "type": self.kind.name(),
            "namespace": self.namespace, "rooms": self.rooms, "except": self.except, "event": self.event,
            "bytes": self.bytes, "number": self.number, "note": self.note,
        });
        if with_payload {
            json["payload"] = json_value(self.payload.as_ref());
        }
        json
    }
}

/// Whether one of these is wanted.
fn has_any(wanted: &[String], found: &[String]) -> bool {
    wanted.is_empty() || found.iter().any(|name| wanted.contains(name))
}

fn names(rooms: &[Room]) -> Vec<String> {
    rooms.iter().map(|room| room.to_text().to_string()).collect()
}

/// What an answer says, and its payload.
fn about_answer(answer: &Answer) -> (String, Option<Payload>) {
    match answer {
        Answer::Sockets(sockets) => (counted(sockets.len(), "socket"), None),
        Answer::Rooms(rooms) => (counted(rooms.len(), "room"), None),
        Answer::ServerSideEmit(value) => ("value of a server".into(), value.clone()),
        Answer::ClientCount(count) => (format!("sent to {}", counted(*count as usize, "client")), None),
        Answer::Ack(ack) => ("acknowledgement of a client".into(), ack.value.clone()),
        Answer::Part(part) => {
            let (text, payload) = about_answer(&part.answer);
            (format!("part {} of it, {text}", part.index), payload)
        }
        Answer::TooLarge(text) => (format!("larger than the broker takes: {text}"), None),
    }
}
