//! What travels between a page and its node, and between nodes, as both sides write it.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a page says of itself when it connects, in the handshake's `auth`.
#[derive(Clone, Deserialize)]
pub(crate) struct Hello {
    /// Made by the page, kept when it moves to another node, and known to nobody else: who the page is follows from it.
    /// An id that others can see would let them pass for it, and read what is written to it alone.
    pub(crate) secret: String,
    pub(crate) name: String,
    /// The rooms the page is in already, when it comes from another node.
    pub(crate) rooms: Vec<String>,
    /// Up to where it has received everything; added by `trunkline-client.js`.
    pub(crate) offset: Option<String>,
}

/// The first thing that a page hears: from here on the node hears what the page says.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    pub(crate) node: u16,
    /// The id under which the others see this page.
    pub(crate) user: String,
    pub(crate) nodes: Vec<NodeView>,
    /// The events whose last argument is their place in the history; none without one.
    pub(crate) offsets: &'static [&'static str],
}

/// A node as the pages show it; its port is its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NodeView {
    pub(crate) port: u16,
    pub(crate) running: bool,
    /// Whether it runs in this process and can be stopped and started from the page.
    pub(crate) ours: bool,
    pub(crate) people: Vec<Person>,
}

/// A person who is online.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) rooms: Vec<String>,
    /// When this page connected to its node, in milliseconds since 1970.
    pub(crate) since: u64,
}

/// What a node tells the other nodes.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Announcement {
    pub(crate) port: u16,
    /// Counts the announcements of the node.
    pub(crate) number: u64,
    pub(crate) people: Vec<Person>,
    /// Whether the others shall announce themselves too.
    pub(crate) ask: bool,
}

/// A message as a page sends it, to a room or to one person.
#[derive(Debug, Deserialize)]
pub(crate) struct Draft {
    /// Made by the page, so that it recognises its own message and can drop a repeat.
    pub(crate) id: String,
    /// A room's name, or a user for a private message.
    pub(crate) to: String,
    #[serde(default)]
    pub(crate) text: String,
    /// At most one. A list, because socketioxide's parser does not find an attachment behind an `Option`.
    #[serde(default)]
    pub(crate) pictures: Vec<Picture>,
}

/// What arrives: the draft with who wrote it, where and when.
#[derive(Debug, Serialize)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) to: String,
    pub(crate) from: Author,
    /// The node whose page it was written on.
    pub(crate) node: u16,
    /// Milliseconds since 1970, by the clock of that node.
    pub(crate) at: u64,
    pub(crate) text: String,
    pub(crate) pictures: Vec<Picture>,
}

/// A small picture; its bytes travel as a binary attachment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Picture {
    /// The media type.
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) data: Bytes,
}

/// Who wrote or types something.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Author {
    pub(crate) user: String,
    pub(crate) name: String,
}

/// The room or person that a page's user is typing to.
#[derive(Debug, Deserialize)]
pub(crate) struct Typing {
    pub(crate) to: String,
    /// Whether `to` is a user and not a room.
    pub(crate) private: bool,
}

/// What the readers of that room, or that person, get to know.
#[derive(Debug, Serialize)]
pub(crate) struct TypingNotice {
    pub(crate) from: Author,
    pub(crate) to: String,
    pub(crate) private: bool,
}

/// A wish to stop or start a node.
#[derive(Debug, Deserialize)]
pub(crate) struct Switch {
    pub(crate) port: u16,
    pub(crate) run: bool,
}

/// The acknowledgement of everything a page asks for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Answer {
    /// Empty when it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// For private messages: the node on which the other page has confirmed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivered: Option<u16>,
}

impl From<Result<(), String>> for Answer {
    fn from(result: Result<(), String>) -> Self {
        Self { error: result.err(), delivered: None }
    }
}

impl Hello {
    pub(crate) fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        if !(16..=64).contains(&self.secret.len()) || self.rooms.len() > MAX_ROOMS {
            return Err("this page sent an unusable identity: reload it".to_owned());
        }
        self.rooms.iter().try_for_each(|room| check_room(room))
    }

    /// The id under which the others see the page, unlike a socket id also after a move. It does not lead back to the
    /// secret.
    pub(crate) fn user(&self) -> String {
        Sha256::digest(&self.secret)[..12].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Draft {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.id.is_empty() || self.id.len() > 64 {
            return Err("the message carries no usable id".to_owned());
        }
        if self.text.chars().count() > MAX_TEXT {
            return Err(format!("the message is too long: at most {MAX_TEXT} characters"));
        }
        if self.text.trim().is_empty() && self.pictures.is_empty() {
            return Err("the message is empty".to_owned());
        }
        if self.pictures.len() > 1 {
            return Err("only one picture can be sent with a message".to_owned());
        }
        self.pictures.iter().try_for_each(Picture::check)
    }

    pub(crate) fn signed(self, from: Author, node: u16) -> Message {
        let Self { id, to, text, pictures } = self;
        Message { id, to, from, node, at: now(), text, pictures }
    }
}

impl Picture {
    fn check(&self) -> Result<(), String> {
        if self.data.len() > MAX_PICTURE {
            return Err(format!(
                "the picture has {} KB, the limit is {} KB",
                self.data.len() / 1024,
                MAX_PICTURE / 1024
            ));
        }
        // Not SVG, which can carry scripts.
        if !["image/png", "image/jpeg", "image/gif", "image/webp"].contains(&self.kind.as_str()) {
            return Err("only PNG, JPEG, GIF and WebP pictures can be sent".to_owned());
        }
        Ok(())
    }
}

pub(crate) fn check_name(name: &str) -> Result<(), String> {
    check_label("nickname", name, MAX_NAME)
}

pub(crate) fn check_room(room: &str) -> Result<(), String> {
    check_label("room's name", room, MAX_ROOM_NAME)
}

fn check_label(what: &str, label: &str, most: usize) -> Result<(), String> {
    if label.trim().is_empty() || label.trim() != label || label.chars().count() > most {
        return Err(format!("the {what} needs 1 to {most} characters, without spaces around them"));
    }
    Ok(())
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

pub(crate) const MAX_PICTURE: usize = 512 * 1024;
pub(crate) const MAX_ROOMS: usize = 32;
pub(crate) const MAX_TEXT: usize = 4000;
pub(crate) const MAX_NAME: usize = 24;
pub(crate) const MAX_ROOM_NAME: usize = 32;
