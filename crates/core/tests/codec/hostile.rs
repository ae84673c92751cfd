//! Malformed and malicious data from the network: it never panics, and peeking and decoding agree about it.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};
use trunkline_core::{
    codec::{self, Body, BodyRef, Kind},
    model::Message,
};

use crate::{
    FORMATS,
    arbitrary::{body, namespace, node},
    decode, packed,
};

/// Checks that peeking either returns nothing or agrees with decoding.
fn check_agreement(bytes: &Bytes) {
    let header = codec::peek(bytes);
    let (Ok(decoded), Some(header)) = (codec::decode(bytes), header) else { return };
    assert_eq!(Some(header.kind), BodyRef::from(&decoded.body).kind());
    assert_eq!(header.from, decoded.from);
    assert_eq!(header.namespace, decoded.namespace);
    assert_eq!(header.seq_no, decoded.seq_no);
    if let Some(room) = header.room {
        let Body::Message(Message::Broadcast { request: None, target, .. }) = decoded.body else {
            panic!("a room of {:?}", decoded.body);
        };
        assert_eq!(target.single_room(), Some(&room));
    }
}

/// Checks the same for a `data` object without its envelope.
fn check_agreement_on_room(data: &Bytes) {
    let Some(room) = codec::peek_room(Kind::Broadcast, data) else { return };
    let Ok(Body::Message(message)) = codec::decode_data(Kind::Broadcast, None, data) else { return };
    let Message::Broadcast { request: None, target, .. } = message else { panic!("a room of {message:?}") };
    assert_eq!(target.single_room(), Some(&room));
}

/// Fields of a message and of its data, right and wrong ones.
const TOP: [&str; 14] = [
    r#""uid":"a""#,
    r#""uid":"b""#,
    r#""nsp":"/a""#,
    r#""nsp":"/b""#,
    r#""type":3"#,
    r#""type":9"#,
    r#""stamp":[0,1]"#,
    r#""stamp":[0,2]"#,
    r#""x":{"packet":{"type":2,"data":["a"]},"opts":{"rooms":["x"],"except":[],"flags":{}}}"#,
    r#""x":{}"#,
    r#""x":1"#,
    r#""x":",\"uid\":\"c\"""#,
    r#""u\u0069d":"c""#,
    r#""counters":[[0,1]]"#,
];
const DATA: [&str; 12] = [
    r#""packet":{"type":2,"data":["a"]}"#,
    r#""packet":{"type":2,"data":["a",{"opts":{"rooms":["p"],"except":[],"flags":{}}}]}"#,
    r#""packet":["a"]"#,
    r#""requestId":"r""#,
    r#""requestId":null"#,
    r#""opts":{"rooms":["a"],"except":[],"flags":{}}"#,
    r#""opts":{"rooms":["b"]}"#,
    r#""opts":{"rooms":["c"],"x":{"opts":{"rooms":["d"]}}}"#,
    r#""x":{}"#,
    r#""x":{"opts":{"rooms":["e"],"except":[],"flags":{}}}"#,
    r#""rooms":[]"#,
    r#""x":1"#,
];

fn object(fields: &[&str]) -> String {
    format!("{{{}}}", fields.join(","))
}

fn selection(fields: &'static [&'static str], max: usize) -> impl Strategy<Value = Vec<&'static str>> {
    vec(prop::sample::select(fields), 0..max)
}

/// The layout of an official `data` object, with fields added anywhere.
fn nearly_official_data() -> impl Strategy<Value = String> {
    let fields = || selection(&DATA, 2);
    (fields(), fields(), fields()).prop_map(|(before, between, after)| {
        object(&[&before[..], &[DATA[0]], &between[..], &[DATA[5]], &after[..]].concat())
    })
}

/// The layout of an official message, with fields added anywhere.
fn nearly_official() -> impl Strategy<Value = String> {
    let data = prop_oneof![1 => Just(object(&[DATA[0], DATA[5]])), 2 => nearly_official_data()];
    (data, selection(&TOP, 2), selection(&TOP, 3), selection(&TOP, 2)).prop_map(|(data, before, between, after)| {
        let data = format!(r#""data":{data}"#);
        let official = [&[TOP[4]], &before[..], &[&*data], &between[..], &[TOP[0], TOP[2]], &after[..]].concat();
        object(&official)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn peeking_and_decoding_agree_whatever_fields_are_added(text in nearly_official()) {
        check_agreement(&Bytes::from(text.clone()));
        check_agreement(&packed(&text));
    }

    #[test]
    fn peeking_and_decoding_agree_whatever_the_order_of_fields(top in selection(&TOP, 6), data in selection(&DATA, 5), at in any::<Index>()) {
        let data = format!(r#""data":{}"#, object(&data));
        let mut top = top;
        top.insert(at.index(top.len() + 1), &data);
        let text = object(&top);
        check_agreement(&Bytes::from(text.clone()));
        check_agreement(&packed(&text));
    }

    #[test]
    fn peeking_and_decoding_agree_whatever_fields_are_added_to_data(data in nearly_official_data()) {
        check_agreement_on_room(&Bytes::from(data.clone()));
        check_agreement_on_room(&packed(&data));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..120), brace in any::<bool>()) {
        let bytes = if brace { [b"{\"type\":3,\"data\":", &bytes[..]].concat() } else { bytes };
        check_agreement(&bytes.into());
    }
}

proptest! {
    #[test]
    fn damaged_messages_never_panic(
        body in body(), from in node(), namespace in namespace(), damage in vec((any::<Index>(), any::<u8>()), 1..4), cut in any::<Index>(),
    ) {
        for format in FORMATS {
            let bytes = codec::encode(format, &from, &namespace, &body).unwrap().finish(None, &[]);
            check_agreement(&bytes[..cut.index(bytes.len())].to_vec().into());
            let mut damaged = bytes;
            for (at, byte) in &damage {
                *at.get_mut(&mut damaged) = *byte;
            }
            check_agreement(&damaged.into());
        }
    }

    #[test]
    fn messages_made_of_wrong_pieces_never_panic(a in body(), b in body(), cuts in any::<(Index, Index)>()) {
        for format in FORMATS {
            let encode = |body| crate::encode(format, body);
            let (a, b) = (encode(&a), encode(&b));
            let joined = [&a[..cuts.0.index(a.len())], &b[cuts.1.index(b.len())..]].concat();
            check_agreement(&joined.into());
        }
    }
}

#[test]
fn a_message_that_looks_different_from_its_ends_is_refused() {
    let packet = r#""packet":{"type":2,"data":["a"]}"#;
    let opts = |room| format!(r#""opts":{{"rooms":["{room}"],"except":[],"flags":{{}}}}"#);
    let (real, fake) = (opts("real"), opts("fake"));
    for text in [
        format!(r#"{{"type":3,"data":{{{packet},{real}}},"x":{{{packet},{fake}}},"uid":"n","nsp":"/"}}"#),
        format!(r#"{{"type":3,"data":{{{packet},"requestId":"r","x":{{}},{real}}},"uid":"n","nsp":"/"}}"#),
        format!(r#"{{"type":3,"data":{{{packet},{real}}},"stamp":[0,1],"x":{{}},"uid":"n","nsp":"/"}}"#),
    ] {
        let error = decode(&text).unwrap_err().to_string();
        assert!(error.contains("two ways"), "{error} {text}");
    }
    let harmless = format!(r#"{{"type":3,"data":{{{packet},{real}}},"x":{{"y":1}},"uid":"n","nsp":"/"}}"#);
    assert!(decode(&harmless).is_ok());
}
