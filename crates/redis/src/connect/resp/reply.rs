//! Elements of a reply.

use bytes::Bytes;
use memchr::memchr;

use super::frames::parse_integer;

/// One element of a reply. Strings are slices of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(Bytes),
    Error(Bytes),
    Integer(i64),
    Text(Bytes),
    /// Null: a string or array that is not there.
    Nothing,
    /// An array, a push or a map, of which this many elements follow.
    Array(usize),
}

/// Reads the elements of a whole reply one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    /// `reply` comes from [`Frames`](super::Frames), which has checked its form.
    pub(crate) fn new(reply: Bytes) -> Self {
        Self { rest: reply }
    }

    /// The next element; `None` after the last one.
    pub(crate) fn next(&mut self) -> Option<Reply> {
        let end = memchr(b'\n', &self.rest)?;
        let line = self.rest.split_to(end + 1);
        let line = line.slice(..line.len().saturating_sub(2));
        let (&kind, digits) = line.split_first()?;
        match kind {
            b'+' => Some(Reply::Simple(line.slice(1..))),
            b'-' => Some(Reply::Error(line.slice(1..))),
            b':' => parse_integer(digits).map(Reply::Integer),
            b'$' => self.text(parse_integer(digits)?),
            b'_' => Some(Reply::Nothing),
            b'%' => usize::try_from(parse_integer(digits)?).ok().map(|pairs| Reply::Array(pairs * 2)),
            _ => Some(usize::try_from(parse_integer(digits)?).map_or(Reply::Nothing, Reply::Array)),
        }
    }

    fn text(&mut self, length: i64) -> Option<Reply> {
        let Ok(length) = usize::try_from(length) else { return Some(Reply::Nothing) };
        if self.rest.len() < length + 2 {
            return None;
        }
        let text = self.rest.split_to(length);
        let _ = self.rest.split_to(2);
        Some(Reply::Text(text))
    }

    /// The next element if it is a string.
    pub(crate) fn next_text(&mut self) -> Option<Bytes> {
        match self.next()? {
            Reply::Text(text) | Reply::Simple(text) => Some(text),
            _ => None,
        }
    }

    /// The next element if it is an array: its length.
    pub(crate) fn next_array(&mut self) -> Option<usize> {
        match self.next()? {
            Reply::Array(length) => Some(length),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_in_their_order() {
        let mut reader =
            Reader::new(Bytes::from_static(b"*5\r\n$3\r\na\r\n\r\n:-4\r\n+OK\r\n-MOVED 1 x\r\n*1\r\n$-1\r\n"));
        assert_eq!(reader.next_array(), Some(5));
        assert_eq!(reader.next_text(), Some(Bytes::from_static(b"a\r\n")));
        assert_eq!(reader.next(), Some(Reply::Integer(-4)));
        assert_eq!(reader.next(), Some(Reply::Simple(Bytes::from_static(b"OK"))));
        assert_eq!(reader.next(), Some(Reply::Error(Bytes::from_static(b"MOVED 1 x"))));
        assert_eq!(reader.next(), Some(Reply::Array(1)));
        assert_eq!(reader.next(), Some(Reply::Nothing));
        assert_eq!(reader.next(), None);
    }
}
