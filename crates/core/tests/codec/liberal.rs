//! What is not as the official adapters write it, but understood.

use std::time::Duration;

use trunkline_core::{
    codec::{self, Body, Format, Kind},
    model::{Ack, Answer, Flags, Heartbeat, Message, Response, Room, SocketId, SocketInfo, Target},
    payload::Rules,
};

use crate::{FORMATS, decode, encode, hello, node, packed, payload, request};

fn message(text: &str) -> Message {
    let both = [decode(text).unwrap(), codec::decode(&packed(text)).unwrap()].map(|decoded| decoded.body);
    assert_eq!(both[0], both[1]);
    match both {
        [Body::Message(message), _] => message,
        _ => panic!("an answer"),
    }
}

fn target(opts: &str) -> Target {
    let text =
        format!(r#"{{"type":3,"data":{{"packet":{{"type":2,"data":["a"]}},"opts":{opts}}},"uid":"n","nsp":"/"}}"#);
    match message(&text) {
        Message::Broadcast { target, .. } => target,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fields_may_stand_in_any_order_among_unknown_ones() {
    let text = r#"{"nsp":"/","x":{"type":9},"data":{"y":[1],"opts":{"z":null,"flags":{},"rooms":["a"]},
        "packet":{"id":5,"nsp":"/","data":["hello","world"],"attachments":1,"type":5}},"uid":"n","nodeId":"1","type":3.0} "#;
    assert_eq!(message(text), hello(Target::room("a")));
}

#[test]
fn missing_parts_of_opts_mean_nothing_special() {
    assert_eq!(target("{}"), Target::all());
    assert_eq!(target(r#"{"rooms":null,"except":null,"flags":null}"#), Target::all());
    assert_eq!(target(r#"{"rooms":["a"]}"#), Target::room("a"));
    assert_eq!(target(r#"{"rooms":"a"}"#), Target::room("a"));
    assert_eq!(target(r#"{"rooms":"ba","except":"c"}"#), Target::rooms(["a", "b"]).except("c"), "a Set of a text");
    for empty in ["[]", r#"{"rooms":"","flags":""}"#, r#"{"rooms":[],"flags":[]}"#, r#"{"flags":[true]}"#] {
        assert_eq!(target(empty), Target::all(), "{empty}");
    }
}

#[test]
fn an_entry_that_is_no_room_addresses_no_socket() {
    for none in ["null", "true", "{}", r#"["a"]"#, r#"{"a":["b"]}"#] {
        assert_eq!(target(&format!(r#"{{"rooms":[{none},"a",{none}]}}"#)), Target::room("a"));
        assert_eq!(target(&format!(r#"{{"except":[{none},"a"]}}"#)), Target::all().except("a"));
        assert_eq!(target(&format!(r#"{{"except":[{none}]}}"#)), Target::all());
        let addressed = target(&format!(r#"{{"rooms":[{none}],"except":["b"]}}"#));
        for rooms in [&[][..], &["".into()], &["a".into(), "".into()]] {
            assert!(!addressed.matches(rooms), "{none}: {rooms:?}");
        }
    }
}

#[test]
fn a_room_whose_name_is_too_long_costs_only_itself() {
    let long = "x".repeat(4097);
    let beside = target(&format!(r#"{{"rooms":["{long}","a"],"except":["{long}","b"]}}"#));
    assert!(beside.matches(&["a".into()]) && !beside.matches(&["a".into(), "b".into()]));
    // Left out, the one would address all sockets, and the other except none.
    assert!(!target(&format!(r#"{{"rooms":["{long}"]}}"#)).matches(&["a".into()]));
    assert!(!target(&format!(r#"{{"except":["{long}"]}}"#)).matches(&[Room::new(long.as_str())]));
    for (kind, is_join) in [(4, true), (5, false)] {
        let text = format!(r#"{{"type":{kind},"data":{{"opts":{{}},"rooms":["{long}","a"]}},"uid":"n","nsp":"/"}}"#);
        let (target, rooms) = (Target::all(), vec!["a".into()]);
        let expected = if is_join { Message::Join { target, rooms } } else { Message::Leave { target, rooms } };
        assert_eq!(message(&text), expected);
    }
}

#[test]
fn number_rooms_stay_numbers() {
    let rooms = target(r#"{"rooms":[42,42.0,"42",1.5,-7]}"#).rooms;
    let expected = [Room::from(42), Room::from(42), Room::from("42"), Room::number(1.5).unwrap(), Room::from(-7)];
    assert_eq!(rooms, expected);
}

#[test]
fn flags_are_read_and_unknown_ones_left_out() {
    let flags = |text: &str| target(&format!(r#"{{"flags":{text}}}"#)).flags;
    let all = Flags::default()
        .with_volatile(Some(false))
        .with_compress(Some(true))
        .with_timeout(Some(Duration::from_millis(800)))
        .with_expect_single_response(true);
    let text = r#"{"local":true,"volatile":false,"compress":true,"timeout":800,"expectSingleResponse":true,"x":{}}"#;
    assert_eq!(flags(text), all);
    assert_eq!(
        flags(r#"{"volatile":1,"compress":"yes","timeout":"soon","expectSingleResponse":null}"#),
        Flags::default()
    );
    assert_eq!(flags(r#"{"timeout":1.5}"#).timeout, Some(Duration::from_micros(1500)));
    assert_eq!(flags(r#"{"timeout":-1}"#).timeout, None);
    assert_eq!(flags(r#"{"timeout":1e300}"#).timeout, None);
}

#[test]
fn flags_are_written_in_order_and_local_never() {
    let flags = Flags::default()
        .with_local(true)
        .with_volatile(Some(false))
        .with_compress(Some(true))
        .with_timeout(Some(Duration::from_micros(1500)))
        .with_expect_single_response(true);
    let message = hello(Target { flags, ..Target::all() });
    let text = String::from_utf8(encode(Format::Json, &message).to_vec()).unwrap();
    let expected = r#""flags":{"expectSingleResponse":true,"volatile":false,"compress":true,"timeout":2}}"#;
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_null_request_id_is_none() {
    let text = r#"{"type":9,"data":{"requestId":null,"packet":["a"]},"uid":"n","nsp":"/"}"#;
    assert_eq!(message(text), Message::ServerSideEmit { request: None, payload: payload(r#"["a"]"#) });
}

#[test]
fn messages_without_sender_or_namespace_are_read() {
    let decoded = decode(r#"{"type":13}"#).unwrap();
    assert_eq!((decoded.from, decoded.namespace), (None, None));
    assert_eq!(decoded.body, Body::Message(Message::Leaving));
    let decoded = decode(r#"{"type":2,"data":{"whatever":1},"uid":null,"nsp":null}"#).unwrap();
    assert_eq!((decoded.from, decoded.namespace), (None, None));
    assert_eq!(decoded.body, Body::Message(Message::Heartbeat(Heartbeat::default())));
}

#[test]
fn a_fetched_socket_needs_only_an_id_and_lives_on_the_answering_node() {
    let text = r#"{"type":8,"data":{"requestId":"r","sockets":[{"id":"x"},{"id":"y","rooms":["y",7],"data":null,"z":1}]},"uid":"n","nsp":"/"}"#;
    let socket = |id: &str, rooms| SocketInfo::new(SocketId::new(id).unwrap(), rooms).with_node(Some(node("n")));
    let sockets = vec![socket("x", vec![]), socket("y", vec!["y".into(), 7.into()])];
    let answer = Answer::Sockets(sockets);
    let expected = Body::Response(Response { request: request("r").unwrap(), answer });
    assert_eq!(decode(text).unwrap().body, expected);
    assert_eq!(codec::decode(&packed(text)).unwrap().body, expected);
    assert_eq!(
        codec::decode_data(Kind::Sockets, Some(&node("n")), &encode_data(&expected)).unwrap(),
        with_objects(expected)
    );
}

/// Decodes a message in both encodings, with an array of 500 levels in place of each `"@"`.
fn decode_deep(text: &str) -> [Body; 2] {
    let json = text.replace(r#""@""#, &format!("{}{}", "[".repeat(500), "]".repeat(500)));
    let msgpack = packed(text);
    let parts: Vec<_> =
        msgpack.split(|&byte| byte == b'@').map(|part| part.strip_suffix(b"\xa1").unwrap_or(part)).collect();
    let deep = [vec![0x91; 499], vec![0x90]].concat();
    [decode(&json).unwrap().body, codec::decode(&parts.join(&deep[..]).into()).unwrap().body]
}

#[test]
fn a_bad_entry_of_an_answer_costs_that_entry_only() {
    let long = "x".repeat(4097);
    let entries = [
        format!(r#"{{"id":"a","handshake":{{"auth":"@"}},"rooms":["{long}","r","@",7],"data":"@","x":"@"}}"#),
        r#"{"id":1}"#.to_owned(),
        r#"{"handshake":{}}"#.to_owned(),
        format!(r#"{{"id":"{long}"}}"#),
        r#"{"id":"b","id":"b"}"#.to_owned(),
        r#"["c"]"#.to_owned(),
        r#""@""#.to_owned(),
        r#"{"id":"d","rooms":{"e":"}]"},"handshake":[[],{}],"data":"\\\""}"#.to_owned(),
        format!(r#"{{"id":"e","rooms":"{long}"}}"#),
    ]
    .join(",");
    let text = format!(r#"{{"type":8,"data":{{"requestId":"r","sockets":[{entries}]}},"uid":"n","nsp":"/"}}"#);
    for body in decode_deep(&text) {
        let Body::Response(Response { answer: Answer::Sockets(sockets), .. }) = body else { panic!("{body:?}") };
        let [a, d, e] = sockets.as_slice() else { panic!("{sockets:?}") };
        assert_eq!((a.id.as_str(), &a.handshake, &a.data), ("a", &None, &None));
        assert_eq!(a.rooms, ["r".into(), Room::from(7)]);
        assert_eq!((d.id.as_str(), d.rooms.as_slice()), ("d", &[][..]));
        assert!(d.handshake.as_ref().unwrap().same_meaning(&payload("[[],{}]")));
        assert!(d.data.as_ref().unwrap().same_meaning(&payload(r#""\\\"""#)));
        assert_eq!((e.id.as_str(), e.rooms.as_slice()), ("e", &[][..]));
    }
}

#[test]
fn an_answer_with_a_value_that_cannot_be_held_is_one_without() {
    for (kind, expected) in [(10, Answer::ServerSideEmit(None)), (12, Answer::Ack(Ack::default()))] {
        let text = format!(r#"{{"type":{kind},"data":{{"requestId":"r","packet":"@"}},"uid":"n","nsp":"/"}}"#);
        for body in decode_deep(&text) {
            let Body::Response(Response { answer, .. }) = body else { panic!("{body:?}") };
            assert_eq!(answer, expected);
        }
    }
}

fn encode_data(body: &Body) -> bytes::Bytes {
    codec::encode_data(Format::Json, body).unwrap().unwrap().into()
}

/// What is unknown of a socket is written as a handshake without values, and empty data.
fn with_objects(mut body: Body) -> Body {
    if let Body::Response(Response { answer: Answer::Sockets(sockets), .. }) = &mut body {
        for socket in sockets {
            socket.handshake = Some(SocketInfo::unknown_handshake());
            socket.data = Some(payload("{}"));
        }
    }
    body
}

#[test]
fn undefined_is_no_key_or_null_as_the_official_encoders_have_it() {
    let response = Response { request: request("r").unwrap(), answer: Answer::Ack(Ack::default()) };
    let [json, notepack, msgpack_js] = FORMATS.map(|format| codec::encode_data(format, &response).unwrap().unwrap());
    assert_eq!(json, br#"{"requestId":"r"}"#);
    assert_eq!(notepack, b"\x81\xa9requestId\xa1r");
    assert_eq!(msgpack_js, b"\x82\xa9requestId\xa1r\xa6packet\xc0");
}

#[test]
fn the_socket_that_acknowledges_stands_behind_the_keys_of_the_official_adapters() {
    let socket = SocketId::new("s").unwrap();
    let ack = Ack::new(Some(trunkline_core::Payload::value(&1).unwrap())).with_socket(Some(socket));
    let response = Response { request: request("r").unwrap(), answer: Answer::Ack(ack) };
    let [json, ..] = FORMATS.map(|format| codec::encode_data(format, &response).unwrap().unwrap());
    assert_eq!(json, br#"{"requestId":"r","packet":1,"sid":"s"}"#);
}

#[test]
fn binary_has_its_place_in_the_kinds_that_the_wires_say() {
    let binary = trunkline_core::Payload::from_msgpack(&b"\x92\xa1a\xc4\x01\x00"[..]).unwrap();
    let broadcast = Message::Broadcast { request: None, target: Target::all(), payload: binary.clone() };
    assert!(codec::contains_binary(&broadcast, &codec::BINARY_KINDS));
    assert!(!codec::contains_binary(&hello(Target::all()), &codec::BINARY_KINDS));
    let socket = SocketInfo::new(SocketId::new("x").unwrap(), vec![]).with_data(Some(binary));
    let sockets = Response { request: request("r").unwrap(), answer: Answer::Sockets(vec![socket]) };
    assert!(codec::contains_binary(&sockets, &codec::BINARY_KINDS));
    assert!(!codec::contains_binary(&sockets, &codec::BINARY_KINDS_POSTGRES));
    let text = codec::encode_data(Format::Json, &sockets).unwrap().unwrap();
    assert!(String::from_utf8(text).unwrap().contains(r#""data":["a",{"type":"Buffer","data":[0]}]"#));
}

#[test]
fn binary_crosses_msgpack_wires() {
    let binary = trunkline_core::Payload::event("a", &serde_bytes::Bytes::new(b"xyz")).unwrap();
    let message = Message::ServerSideEmit { request: None, payload: binary };
    let bytes = encode(Format::MsgPack(Rules::Notepack), &message);
    assert_eq!(codec::decode(&bytes).unwrap().body, Body::Message(message));
}
