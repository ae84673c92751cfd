//! Splitting received bytes into whole replies.

use std::io;

use bytes::{Bytes, BytesMut};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Room for one read, at least.
const CHUNK: usize = 64 << 10;

/// Largest length that is accepted: no server sends more.
const MAX_LENGTH: i64 = 1 << 32;

/// How deep arrays may be nested. The answer to `XREAD` has five levels.
const MAX_DEPTH: usize = 8;

/// Buffer of the replies that come over a connection.
///
/// A reply that arrives in pieces is not scanned again from its beginning, and a long string gets its room at once.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
    /// End of what is scanned of the incomplete reply.
    scanned: usize,
    /// Elements that are still to come, per open array.
    open: Vec<usize>,
}

impl Frames {
    /// Waits for the next reply. *Cancel safe.*
    pub(crate) async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
        loop {
            if let Some(reply) = self.next()? {
                return Ok(reply);
            }
            self.fill(from).await?;
        }
    }

    /// Takes bytes that have arrived otherwise.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Waits for more bytes. *Cancel safe.*
    pub(crate) async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        self.buffer.reserve(CHUNK.max(self.missing()));
        match from.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        }
    }

    /// How many bytes the string that is being read still needs.
    fn missing(&self) -> usize {
        match self.header() {
            Ok(Some((b'$', length, after))) => {
                let end = after + usize::try_from(length).unwrap_or(0) + 2;
                end.saturating_sub(self.buffer.len())
            }
            _ => 0,
        }
    }

    /// The next reply that is complete.
    pub(crate) fn next(&mut self) -> io::Result<Option<Bytes>> {
        while let Some((kind, length, after)) = self.header()? {
            let is_complete = match kind {
                b'*' | b'>' => self.array(length, after)?,
                b'%' => self.array(length * 2, after)?,
                b'$' => {
                    let end = if length < 0 { after } else { after + length as usize + 2 };
                    if self.buffer.len() < end {
                        return Ok(None);
                    }
                    self.scanned = end;
                    self.element_ends()
                }
                _ => {
                    self.scanned = after;
                    self.element_ends()
                }
            };
            if is_complete {
                let frame = self.buffer.split_to(self.scanned);
                self.scanned = 0;
                return Ok(Some(frame.freeze()));
            }
        }
        Ok(None)
    }

    /// The kind of the next element, its length if it has one, and where its first line ends; `None` if that has not
    /// arrived.
    fn header(&self) -> io::Result<Option<(u8, i64, usize)>> {
        let rest = &self.buffer[self.scanned..];
        let Some(end) = memchr(b'\n', rest) else { return Ok(None) };
        let line = rest[..end].strip_suffix(b"\r").ok_or_else(|| garbled("a line without its end"))?;
        let after = self.scanned + end + 1;
        match line.split_first() {
            Some((&kind @ (b'*' | b'>' | b'%' | b'$'), digits)) => {
                let length = parse_integer(digits).filter(|length| (-1..MAX_LENGTH).contains(length));
                Ok(Some((kind, length.ok_or_else(|| garbled("a length that is none"))?, after)))
            }
            Some((&kind @ (b'+' | b'-' | b':' | b'_'), _)) => Ok(Some((kind, 0, after))),
            _ => Err(garbled("an unknown type of reply")),
        }
    }

    /// An array begins. True if the reply is complete: an empty array may be its last element.
    fn array(&mut self, length: i64, after: usize) -> io::Result<bool> {
        self.scanned = after;
        if length > 0 {
            if self.open.len() == MAX_DEPTH {
                return Err(garbled("arrays nested too deeply"));
            }
            self.open.push(length as usize);
            return Ok(false);
        }
        Ok(self.element_ends())
    }

    /// An element is complete, and with it the arrays of which it is the last. True if the reply is.
    fn element_ends(&mut self) -> bool {
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                return false;
            }
            self.open.pop();
        }
        true
    }
}

fn garbled(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A decimal integer with an optional sign.
pub(super) fn parse_integer(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that comes of `bytes` when they arrive in pieces of `size`.
    async fn cut(bytes: &[u8], size: usize) -> Vec<Bytes> {
        let mut frames = Frames::default();
        let mut replies = Vec::new();
        for mut piece in bytes.chunks(size) {
            frames.fill(&mut piece).await.unwrap();
            while let Some(reply) = frames.next().unwrap() {
                replies.push(reply);
            }
        }
        replies
    }

    #[tokio::test]
    async fn replies_are_cut_the_same_in_pieces_of_any_size() {
        let replies: [&[u8]; 9] = [
            b"+PONG\r\n",
            b":17\r\n",
            b"-ERR no\r\n",
            b"$5\r\na\r\nb$\r\n",
            b"*-1\r\n",
            b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n",
            b"*2\r\n*2\r\n$-1\r\n*0\r\n*1\r\n*1\r\n:1\r\n",
            b">2\r\n$4\r\npong\r\n_\r\n",
            b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*1\r\n%1\r\n+c\r\n%0\r\n",
        ];
        let all = replies.concat();
        for size in [1, 2, 3, 7, 64, 1_000] {
            assert_eq!(cut(&all, size).await, replies, "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_long_string_gets_its_room_at_once() {
        let mut frames = Frames::default();
        frames.fill(&mut &b"$1000000\r\nabc"[..]).await.unwrap();
        assert_eq!(frames.next().unwrap(), None);
        frames.fill(&mut &b"d"[..]).await.unwrap();
        assert!(frames.buffer.capacity() >= 1_000_000);
    }

    #[tokio::test]
    async fn what_is_no_reply_is_an_error() {
        for garbage in [&b"HTTP/1.1 200 OK\r\n"[..], b"\r\n", b"$x\r\n", b"$-2\r\n", b"*99999999999\r\n", b":1\n"] {
            let mut frames = Frames::default();
            frames.fill(&mut &*garbage).await.unwrap();
            assert!(frames.next().is_err(), "{}", garbage.escape_ascii());
        }
        let mut frames = Frames::default();
        frames.fill(&mut &b"*1\r\n".repeat(9)[..]).await.unwrap();
        assert!(frames.next().unwrap_err().to_string().contains("too deeply"));
        assert!(frames.fill(&mut &b""[..]).await.unwrap_err().to_string().contains("closed"));
    }
}
