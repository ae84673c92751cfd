//! Encoder for commands.

use std::io::Write;

/// Appends a command, which is an array of binary-safe strings.
pub(crate) fn write_command<'a>(
    out: &mut Vec<u8>,
    arguments: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>,
) {
    let arguments = arguments.into_iter();
    header(out, b'*', arguments.len());
    for argument in arguments {
        header(out, b'$', argument.len());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}

fn header(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    let written = write!(out, "{length}\r\n");
    debug_assert!(written.is_ok(), "writing to a Vec cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut out = Vec::new();
        write_command(&mut out, [&b"PUBLISH"[..], b"a b", b""]);
        assert_eq!(out, b"*3\r\n$7\r\nPUBLISH\r\n$3\r\na b\r\n$0\r\n\r\n");
    }
}
