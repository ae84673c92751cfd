//! Packets as strictly as the official client reads them: it closes the connection over one that it cannot parse.

use serde_json::Value;

/// A packet that a client has received.
#[derive(Debug, PartialEq)]
pub(crate) enum Packet {
    Connected,
    Event {
        id: Option<u64>,
        arguments: Vec<Value>,
        attachments: usize,
    },
    Ack {
        id: u64,
        arguments: Vec<Value>,
        attachments: usize,
    },
    /// The server has disconnected the client, or refused it.
    Disconnect,
}

/// Events that the official parser refuses.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

impl Packet {
    /// Reads a packet of the namespace `/`, without its attachments.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let kind = take_digit(&mut rest).ok_or("no type")?;
        let attachments = match kind {
            5 | 6 => {
                let count = take_number(&mut rest).ok_or("no number of attachments")?;
                rest = rest.strip_prefix('-').ok_or("no dash behind the number of attachments")?;
                usize::try_from(count).map_err(|_| "too many attachments")?
            }
            _ => 0,
        };
        if rest.starts_with('/') {
            return Err("another namespace".into());
        }
        let id = take_number(&mut rest);
        let data = if rest.is_empty() {
            None
        } else {
            Some(serde_json::from_str(rest).map_err(|error| format!("not JSON: {error}"))?)
        };
        match kind {
            0 => Ok(Self::Connected),
            1 | 4 => Ok(Self::Disconnect),
            2 | 5 => {
                let arguments = list(data)?;
                check_event(&arguments)?;
                check_placeholders(&arguments, attachments)?;
                Ok(Self::Event { id, arguments, attachments })
            }
            3 | 6 => {
                let arguments = list(data)?;
                check_placeholders(&arguments, attachments)?;
                Ok(Self::Ack { id: id.ok_or("an acknowledgement without id")?, arguments, attachments })
            }
            other => Err(format!("type {other}")),
        }
    }
}

fn take_digit(rest: &mut &str) -> Option<u32> {
    let digit = rest.chars().next()?.to_digit(10)?;
    *rest = &rest[1..];
    Some(digit)
}

fn take_number(rest: &mut &str) -> Option<u64> {
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, behind) = rest.split_at(end);
    *rest = behind;
    digits.parse().ok()
}

fn list(data: Option<Value>) -> Result<Vec<Value>, String> {
    match data {
        Some(Value::Array(arguments)) => Ok(arguments),
        _ => Err("no list of arguments".into()),
    }
}

fn check_event(arguments: &[Value]) -> Result<(), String> {
    match arguments.first() {
        Some(Value::Number(_)) => Ok(()),
        Some(Value::String(name)) if !RESERVED.contains(&name.as_str()) => Ok(()),
        other => Err(format!("an event named {other:?}")),
    }
}

/// Each placeholder must name one of the attachments, or the client throws.
fn check_placeholders(arguments: &[Value], attachments: usize) -> Result<(), String> {
    arguments.iter().try_for_each(|value| check_value(value, attachments))
}

fn check_value(value: &Value, attachments: usize) -> Result<(), String> {
    match value {
        Value::Array(items) => check_placeholders(items, attachments),
        Value::Object(fields) if attachments > 0 && fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = fields.get("num").and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
            if number.is_some_and(|number| number < attachments) {
                Ok(())
            } else {
                Err("a placeholder without attachment".into())
            }
        }
        Value::Object(fields) => fields.values().try_for_each(|value| check_value(value, attachments)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_official_parser_refuses_is_refused() {
        for text in [
            "",
            "x",
            "2",
            "2{}",
            "2[]",
            "2[null]",
            "2[{}]",
            r#"2["disconnect"]"#,
            r#"2["newListener",1]"#,
            "2[1",
            "9[1]",
            r#"5["a"]"#,
            r#"51-["a",{"_placeholder":true,"num":1}]"#,
            "3[1]",
            r#"2/x,["a"]"#,
        ] {
            assert!(Packet::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn packets_are_read() {
        assert_eq!(Packet::parse(r#"0{"sid":"x"}"#), Ok(Packet::Connected));
        assert_eq!(Packet::parse("1"), Ok(Packet::Disconnect));
        let Ok(Packet::Event { id: Some(7), arguments, attachments: 1 }) =
            Packet::parse(r#"51-7["a",{"_placeholder":true,"num":0}]"#)
        else {
            panic!("an event")
        };
        assert_eq!(arguments.len(), 2);
        assert!(matches!(Packet::parse("312[]"), Ok(Packet::Ack { id: 12, .. })));
    }
}
