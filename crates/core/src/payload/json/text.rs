//! Escapes inside JSON strings.
//!
//! Own code in both directions: `serde_json` escapes byte by byte, this eight bytes at a time (`escape` in the
//! benchmarks); and it refuses lone surrogates.

use std::borrow::Cow;

use super::scanner::plain_until;

/// Appends `text` as a JSON string with its quotes, escaped as `JSON.stringify` does.
#[inline]
pub fn escape(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut start = 0;
    loop {
        let end = plain_until(bytes, start);
        out.extend_from_slice(&bytes[start..end]);
        let Some(&byte) = bytes.get(end) else { break };
        escape_byte(out, byte);
        start = end + 1;
    }
    out.push(b'"');
}

fn escape_byte(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend([b'\\', short]);
}

/// Resolves the escapes in the inside of a JSON string. Lone surrogates and, if the text was never checked, broken
/// escapes become U+FFFD.
#[must_use]
pub fn unescape(escaped: &str) -> Cow<'_, str> {
    let Some(first) = escaped.find('\\') else { return Cow::Borrowed(escaped) };
    let mut text = String::with_capacity(escaped.len());
    text.push_str(&escaped[..first]);
    let mut rest = &escaped[first..];
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let (character, len) = unescape_one(&rest[at..]);
        text.push(character);
        rest = rest.get(at + len..).unwrap_or_default();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Decodes the escape sequence at the start of `text`: its character, and its length in bytes.
fn unescape_one(text: &str) -> (char, usize) {
    let character = match text.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b't') => '\t',
        Some(b'n') => '\n',
        Some(b'f') => '\u{c}',
        Some(b'r') => '\r',
        Some(&byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
        Some(b'u') => return unescape_unit(text),
        _ => return (char::REPLACEMENT_CHARACTER, 1),
    };
    (character, 2)
}

fn unescape_unit(text: &str) -> (char, usize) {
    let Some(unit) = code_unit(text) else { return (char::REPLACEMENT_CHARACTER, 2) };
    if let Some(character) = char::from_u32(unit) {
        return (character, 6);
    }
    let low = text.get(6..).and_then(code_unit).filter(|low| (0xdc00..0xe000).contains(low));
    match low {
        Some(low) if unit < 0xdc00 => {
            let character = char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
            (character.unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

/// Decodes `\u` and four hexadecimal digits at the start of `text`: a UTF-16 code unit.
fn code_unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_javascript() {
        let mut out = Vec::new();
        escape(&mut out, "a\"\\/\u{8}\t\n\u{c}\r\u{1}\u{1f}\u{7f}é\u{2028}");
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"\\\\/\\b\\t\\n\\f\\r\\u0001\\u001f\u{7f}é\u{2028}\"");
    }

    #[test]
    fn surrogate_pairs_are_joined_and_lone_surrogates_replaced() {
        assert_eq!(unescape(r"a\ud83d\ude00b"), "a😀b");
        assert_eq!(unescape(r"\ud83dx"), "\u{fffd}x");
        assert_eq!(unescape(r"\ude00\ud83d"), "\u{fffd}\u{fffd}");
        assert_eq!(unescape(r"\ud83d\u0041"), "\u{fffd}A");
        assert_eq!(unescape(r"\u00e9\/\n"), "é/\n");
    }

    #[test]
    fn broken_escapes_do_not_panic() {
        for text in ["\\", "\\u", "\\u12", "\\u12é4", "\\q", "\\ud83d\\u", "\\é", "\\u+123"] {
            assert!(unescape(text).contains('\u{fffd}'), "{text}");
        }
    }
}
