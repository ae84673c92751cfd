//! Arguments of events, as they are written on the command line.

use std::io::Read;

use bytes::Bytes;
use trunkline::Payload;

use crate::output::Failure;

/// Encodes an event with arguments: JSON, text, files, binary.
pub(crate) fn event(name: &str, arguments: &[String]) -> Result<Payload, Failure> {
    let mut text = format!("[{}", json_text(name));
    let mut attachments = Vec::new();
    for argument in arguments {
        text.push(',');
        match value(argument)? {
            Value::Json(json) => text.push_str(&json),
            Value::Binary(bytes) => {
                text.push_str(&format!(r#"{{"_placeholder":true,"num":{}}}"#, attachments.len()));
                attachments.push(bytes);
            }
        }
    }
    text.push(']');
    let payload =
        if attachments.is_empty() { Payload::from_json(text) } else { Payload::from_json_with(text, attachments) };
    Ok(payload?)
}

#[derive(Debug, PartialEq)]
enum Value {
    /// JSON text as it was given: digits and the order of keys stay.
    Json(String),
    Binary(Bytes),
}

fn value(argument: &str) -> Result<Value, Failure> {
    if let Some(text) = argument.strip_prefix("text:") {
        return Ok(Value::Json(json_text(text)));
    }
    if let Some(json) = argument.strip_prefix("json:") {
        return checked(json.to_owned(), json);
    }
    if let Some(digits) = argument.strip_prefix("hex:") {
        return hex(digits).map(|bytes| Value::Binary(bytes.into()));
    }
    if let Some(path) = argument.strip_prefix("binary@") {
        return Ok(Value::Binary(read(path)?.into()));
    }
    if let Some(path) = argument.strip_prefix("text@") {
        return Ok(Value::Json(json_text(&read_text(path)?)));
    }
    if let Some(path) = argument.strip_prefix('@') {
        return checked(read_text(path)?, path);
    }
    Ok(Value::Json(if is_json(argument) { argument.to_owned() } else { json_text(argument) }))
}

fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn checked(json: String, from: &str) -> Result<Value, Failure> {
    match serde_json::from_str::<serde::de::IgnoredAny>(&json) {
        Ok(_) => Ok(Value::Json(json)),
        Err(error) => Err(Failure::usage(format!("{from}: no JSON: {error}"))),
    }
}

fn hex(digits: &str) -> Result<Vec<u8>, Failure> {
    let wrong = || Failure::usage(format!("hex:{digits}: allowed are pairs of hexadecimal digits"));
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    let pairs = (0..digits.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong())).collect()
}

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = match path {
        "-" => std::io::stdin().read_to_end(&mut content).map(|_| content),
        path => std::fs::read(path),
    };
    read.map_err(|error| Failure::usage(format!("{path}: {error}")))
}

fn read_text(path: &str) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|_| Failure::usage(format!("{path}: no UTF-8; binary@{path} sends it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_as_it_is_and_what_is_none_is_text() {
        let payload = event("e", &["{\"b\":1,\"a\":2.50}".into(), "hello".into(), "text:5".into(), "5".into()]);
        assert_eq!(payload.unwrap().as_json_text(), Some(r#"["e",{"b":1,"a":2.50},"hello","5",5]"#));
    }

    #[test]
    fn binary_becomes_an_attachment() {
        let json = event("e", &["hex:00ff".into(), "1".into(), "hex:".into()]).unwrap().to_json();
        assert_eq!(json.text, r#"["e",{"_placeholder":true,"num":0},1,{"_placeholder":true,"num":1}]"#);
        assert_eq!(&*json.attachments, [Bytes::from_static(&[0, 255]), Bytes::new()]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for argument in ["json:hello", "hex:0", "hex:xx", "hex:é", "@/nowhere", "binary@/nowhere"] {
            assert!(event("e", &[argument.into()]).is_err(), "{argument}");
        }
    }
}
