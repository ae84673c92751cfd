//! Text as one word of a routing key or subject.

/// Text as one word of an address, without the characters that have a meaning there, nor those that some broker refuses
/// in names.
///
/// Letters, digits, `-` and `_` stay; every other byte becomes `=` and two upper-case hexadecimal digits; an empty text
/// becomes a single `=`. Different texts have different tokens.
#[must_use]
pub fn token(text: &str) -> String {
    if text.is_empty() {
        return "=".into();
    }
    let mut token = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            token.push(char::from(byte));
        } else {
            token.push('=');
            token.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        }
    }
    token
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn different_texts_have_different_tokens_and_no_token_has_a_meaning() {
        let texts = ["", "=", "/", "=2F", "/a.b", "/a=2Eb", "*", ">", "a b", "ä", "/chat", "chat", "\u{0}", "-_"];
        let mut seen = HashMap::new();
        for text in texts {
            let token = token(text);
            assert!(
                !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte))
            );
            assert_eq!(seen.insert(token.clone(), text), None, "{token}");
        }
    }
}
