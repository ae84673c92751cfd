//! Compares messages with what other software decoded from them when they were captured.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use trunkline_core::payload::Payload;

/// A message as the captures write it down, without the notes on how wide its numbers are.
pub(crate) fn of_capture(decoded: &Value) -> Value {
    match decoded {
        Value::Array(items) => items.iter().map(of_capture).collect(),
        Value::Object(fields) => match (fields.keys().next().map(String::as_str), fields.values().next()) {
            (Some("$float64"), Some(number)) => float(number),
            (Some("$uint64" | "$int64"), Some(digits)) => json!(digits.as_str().unwrap().parse::<f64>().unwrap()),
            (Some("$timestamp"), Some(iso)) => iso.clone(),
            _ => fields.iter().map(|(key, value)| (key.clone(), of_capture(value))).collect(),
        },
        Value::Number(number) => json!(number.as_f64().unwrap()),
        other => other.clone(),
    }
}

fn float(number: &Value) -> Value {
    let value = number.as_f64();
    value.map_or(Value::Null, |value| json!(value))
}

/// A whole message as decoded here, written down in the same way.
pub(crate) fn of_message(message: &Payload) -> Value {
    let json = message.to_json();
    let binary: Vec<_> = json.attachments.iter().map(|part| BASE64_STANDARD.encode(part)).collect();
    with_binary(&value_of(&json.text), &binary)
}

/// Lone surrogates, which serde_json refuses, are replaced.
fn value_of(text: &str) -> Value {
    serde_json::from_str(text).or_else(|_| Payload::from_json(text).and_then(|payload| payload.deserialize())).unwrap()
}

fn with_binary(value: &Value, binary: &[String]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| with_binary(item, binary)).collect(),
        Value::Object(fields) if fields.contains_key("_placeholder") => {
            json!({"$binary": binary[fields["num"].as_u64().unwrap() as usize]})
        }
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), with_binary(value, binary))).collect(),
        Value::Number(number) => json!(number.as_f64().unwrap()),
        other => other.clone(),
    }
}
