//! Sockets as the page shows them.

use serde_json::{Map, Value, json};
use trunkline_socketioxide::{Payload, SocketInfo};

/// A socket in the form of `all_sockets` and `socket_connected`.
///
/// Servers add the client's id and transport to its data as `_admin`, which is not shown. Where one has not, the client is
/// named by the socket, and its transport is that of its first request.
pub(crate) fn shown(namespace: &str, socket: &SocketInfo) -> Value {
    let (data, connection) = data_and_connection(socket.data.as_ref());
    let handshake = handshake(socket.handshake.as_ref());
    let id = socket.id.as_str();
    let text = |field: &str| connection.get(field).and_then(Value::as_str);
    let first_transport = handshake["query"]["transport"].as_str().unwrap_or("websocket");
    let client = text("clientId").or_else(|| id.get(..CLIENT_ID)).unwrap_or(id);
    let transport = text("transport").unwrap_or(first_transport);
    let rooms: Vec<_> = socket.rooms.iter().map(|room| room.to_text()).collect();
    json!({
        "id": id,
        "clientId": client,
        "transport": transport,
        "nsp": namespace,
        "data": data,
        "handshake": handshake,
        "rooms": rooms,
    })
}

/// Data without `_admin`, and what `_admin` says.
pub(crate) fn data_and_connection(data: Option<&Payload>) -> (Value, Map<String, Value>) {
    match data.map(value) {
        Some(Value::Object(mut data)) => {
            let connection = match data.remove("_admin") {
                Some(Value::Object(connection)) => connection,
                _ => Map::new(),
            };
            (Value::Object(data), connection)
        }
        Some(data) => (data, Map::new()),
        None => (json!({}), Map::new()),
    }
}

/// What the page needs of a handshake, and of the type that it needs: it fails with a time that is no number. The address
/// is that of the client before proxies; `auth` is not shown.
fn handshake(handshake: Option<&Payload>) -> Value {
    let given = handshake.map(value).unwrap_or_default();
    let object = |field: &str| given[field].as_object().cloned().unwrap_or_default();
    let text = |field: &str| given[field].as_str().unwrap_or_default();
    let headers = object("headers");
    let header = |name: &str| headers.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
    let address = header("cf-connecting-ip").or_else(|| header("x-forwarded-for")).unwrap_or_else(|| text("address"));
    json!({
        "address": address,
        "query": object("query"),
        "issued": given["issued"].as_number().cloned().unwrap_or_else(|| 0.into()),
        "secure": given["secure"].as_bool().unwrap_or_default(),
        "time": text("time"),
        "url": text("url"),
        "xdomain": given["xdomain"].as_bool().unwrap_or_default(),
        "headers": headers,
    })
}

/// A payload as JSON, its binary in the form of Node.js' buffers.
pub(crate) fn value(payload: &Payload) -> Value {
    serde_json::from_str(&payload.to_json_plain()).unwrap_or_default()
}

/// How much of a client's id the page shows.
const CLIENT_ID: usize = 12;

#[cfg(test)]
mod tests {
    use trunkline_socketioxide::SocketId;

    use super::*;

    fn socket(handshake: &str, data: &str) -> Value {
        let payload = |text: &str| Some(Payload::from_json(text.to_owned()).unwrap());
        let id = SocketId::new("0123456789abcdefghij").unwrap();
        let info = SocketInfo::new(id, vec!["a".into()]).with_handshake(payload(handshake)).with_data(payload(data));
        shown("/x", &info)
    }

    #[test]
    fn the_connection_is_taken_out_of_the_data() {
        let shown = socket("{}", r#"{"name":"Ada","_admin":{"clientId":"abc","transport":"polling"}}"#);
        assert_eq!(shown["data"], json!({ "name": "Ada" }));
        assert_eq!([&shown["clientId"], &shown["transport"], &shown["nsp"]], ["abc", "polling", "/x"]);
    }

    #[test]
    fn what_another_server_leaves_out_has_the_type_that_the_page_needs() {
        for handshake in ["{}", "[]", "null", r#"{"issued":"now","headers":[],"query":7}"#] {
            let shown = socket(handshake, "7");
            let handshake = &shown["handshake"];
            assert_eq!([&handshake["headers"], &handshake["query"]], [&json!({}); 2]);
            assert_eq!((&handshake["issued"], &handshake["address"]), (&json!(0), &json!("")));
            assert_eq!([&shown["clientId"], &shown["transport"]], ["0123456789ab", "websocket"]);
        }
    }

    #[test]
    fn the_address_is_that_before_proxies() {
        let handshake = r#"{"address":"10.0.0.1","headers":{"x-forwarded-for":"192.0.2.7"},"issued":5}"#;
        assert_eq!(socket(handshake, "{}")["handshake"]["address"], "192.0.2.7");
    }
}
