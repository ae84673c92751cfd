//! Payloads arrive as they were sent.

mod limit;

use bytes::Bytes;
use serde::Serialize;
use trunkline_core::{Payload, Target};

pub(crate) use self::limit::*;
use crate::kit::{Checked, TestCluster, check, check_eq, values::text};

/// Broadcasts payloads, and checks that clients of both nodes receive the same ones in the same order.
async fn check_arrive(t: &TestCluster, payloads: Vec<Payload>) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    for payload in &payloads {
        a.broadcast(Target::room("x"), payload.clone()).await?;
    }
    a.settle().await?;
    for socket in &sockets {
        let packets = socket.wait_for(payloads.len()).await?;
        check_eq(packets.len(), payloads.len(), "number of packets")?;
        for (packet, sent) in packets.iter().zip(&payloads) {
            let same = packet.payload.same_meaning(sent);
            check(same, format!("sent {}, got {}", shortened(sent), shortened(&packet.payload)))?;
        }
    }
    Ok(())
}

fn shortened(payload: &Payload) -> String {
    let text = text(payload);
    let start: String = text.chars().take(200).collect();
    if start.len() == text.len() { text } else { format!("{start}… ({} bytes)", text.len()) }
}

fn event(arguments: &impl Serialize) -> Checked<Payload> {
    Ok(Payload::event("event", arguments)?)
}

fn json(text: &str) -> Checked<Payload> {
    Ok(Payload::from_json(text.to_owned())?)
}

pub(crate) async fn strings_keep_every_character(t: TestCluster) -> Checked {
    let strings = [
        "",
        " ",
        "plain",
        "with \"quotes\" and \\ backslashes / slashes",
        "line\nbreak\r\n\ttab",
        "\u{0}\u{1}\u{1f}\u{7f}",
        "äöüß ñ é e\u{301}",
        "Ελληνικά кириллица עברית العربية",
        "日本語 한국어 中文",
        "🚀👩‍👩‍👧‍👦🏳️‍🌈 \u{10ffff}",
        "\u{2028}\u{2029}\u{feff}\u{fffd}",
        "<script>alert('&amp;')</script>",
        "$1 %s {} ${x} #{y}",
        "null",
        "[\"event\"]",
    ];
    let mut payloads = Vec::new();
    for string in strings {
        payloads.push(event(&(string,))?);
        payloads.push(Payload::event(string, &())?);
    }
    check_arrive(&t, payloads).await
}

pub(crate) async fn floats_keep_every_digit(t: TestCluster) -> Checked {
    let floats = [0.1, -0.1, 1.5, 1.0 / 3.0, 1e-7, -2.5e-300, 5e-324, 1.797_693_134_862_315_7e308, 1e21, 123_456.789];
    check_arrive(&t, vec![event(&floats)?, event(&(floats[2], floats[3]))?]).await
}

pub(crate) async fn integers_beyond_2_to_the_53_keep_every_digit(t: TestCluster) -> Checked {
    const EDGE: i64 = 1 << 53;
    let integers = [
        0,
        1,
        -1,
        127,
        128,
        -128,
        -129,
        65_535,
        65_536,
        1 << 31,
        1 << 32,
        EDGE,
        EDGE + 1,
        -EDGE - 1,
        i64::MAX,
        i64::MIN,
    ];
    check_arrive(&t, vec![event(&integers)?]).await
}

pub(crate) async fn null_and_booleans_stay_unchanged(t: TestCluster) -> Checked {
    let texts = [
        r#"["event",null]"#,
        r#"["event",null,null]"#,
        r#"["event",1,null]"#,
        r#"["event",true,false]"#,
        r#"["event",[null,[]],{"a":null}]"#,
        r#"["event","",0,false,null,[],{}]"#,
    ];
    check_arrive(&t, texts.into_iter().map(json).collect::<Checked<_>>()?).await
}

pub(crate) async fn nested_objects_keep_keys_and_their_order(t: TestCluster) -> Checked {
    let deep = format!(r#"["event",{}1{}]"#, r#"{"a":["#.repeat(40), "]}".repeat(40));
    let texts = [
        r#"["event",{"b":1,"a":2,"c":{"z":[1,[2,[3,{"y":{}}]]],"":"empty"}}]"#,
        r#"["event",{"a.b":1,"$set":{"x":1},"__proto__":2,"constructor":3,"ключ":4,"type":"x","data":5}]"#,
        r#"["event",{"nsp":"/other","rooms":["x"],"uid":"1","requestId":"2","packet":{"type":2}}]"#,
        r#"["event",{"1":"a","0":"b"}]"#,
        // The placeholder of binary attachments is an ordinary object in an event without attachments.
        r#"["event",{"_placeholder":true,"num":0}]"#,
        &deep,
    ];
    check_arrive(&t, texts.into_iter().map(json).collect::<Checked<_>>()?).await
}

pub(crate) async fn dates_arrive_as_iso_8601_text(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    // ["date", timestamp of 1 s] as MessagePack, which has a type for it.
    let encoded = Payload::from_msgpack(b"\x92\xa4date\xd6\xff\x00\x00\x00\x01".to_vec())?;
    a.broadcast(Target::room("x"), encoded).await?;
    a.broadcast(Target::room("x"), json(r#"["date","1970-01-01T00:00:01.000Z"]"#)?).await?;
    for packet in socket.wait_for(2).await? {
        check_eq(text(&packet.payload), r#"["date","1970-01-01T00:00:01.000Z"]"#, "event with a date")?;
    }
    Ok(())
}

pub(crate) async fn an_event_without_arguments_arrives_without_arguments(t: TestCluster) -> Checked {
    check_arrive(&t, vec![json(r#"["event"]"#)?, json(r#"[""]"#)?]).await
}

pub(crate) async fn many_arguments_arrive_in_order(t: TestCluster) -> Checked {
    let numbers: Vec<_> = (0..200).collect();
    check_arrive(&t, vec![event(&numbers)?, event(&("a", 1, Bytes::from_static(b"b"), [2.5], ()))?]).await
}

pub(crate) async fn binary_arrives_at_any_depth(t: TestCluster) -> Checked {
    #[derive(Serialize)]
    struct Upload {
        name: &'static str,
        parts: Vec<(u32, Bytes)>,
        preview: Option<Bytes>,
    }
    let every_byte = Bytes::from_iter(0..=u8::MAX);
    let upload = Upload {
        name: "cat",
        parts: vec![(1, every_byte.clone()), (2, Bytes::from_static(b"second"))],
        preview: Some(Bytes::from_static(&[0xff, 0xfe, 0x00])),
    };
    let payloads = vec![
        event(&(every_byte.clone(),))?,
        event(&(1, every_byte.clone(), "text", Bytes::from_static(b"\0")))?,
        event(&(upload,))?,
        event(&([[[every_byte]]],))?,
    ];
    check_arrive(&t, payloads).await
}

pub(crate) async fn many_binary_attachments_arrive_in_order_beside_long_text(t: TestCluster) -> Checked {
    let parts: Vec<_> = (0..25_u8).map(|number| Bytes::from(vec![number; 3])).collect();
    let text = "x".repeat(t.within_limit(50_000).await?);
    check_arrive(&t, vec![event(&parts)?, event(&(text, Bytes::from_static(b"\0\xff"), "end"))?]).await
}

pub(crate) async fn empty_binary_stays_binary(t: TestCluster) -> Checked {
    check_arrive(
        &t,
        vec![event(&(Bytes::new(),))?, event(&(Bytes::new(), "", Bytes::from_static(b"x"), Bytes::new()))?],
    )
    .await
}

pub(crate) async fn a_messagepack_payload_keeps_its_meaning(t: TestCluster) -> Checked {
    // ["event", {"a": [1.5, -1, nil, true, bin 1 2 3]}]
    let encoded = b"\x92\xa5event\x81\xa1a\x95\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xff\xc0\xc3\xc4\x03\x01\x02\x03";
    check_arrive(&t, vec![Payload::from_msgpack(encoded.to_vec())?]).await
}

pub(crate) async fn a_mebibyte_of_text_arrives_whole(t: TestCluster) -> Checked {
    let bytes = t.scaled_within_limit(1 << 20).await?;
    let varied: String =
        (0..).map(|n| char::from(b'!' + (n % 90) as u8)).filter(|c| !"\"\\".contains(*c)).take(bytes).collect();
    // Characters of one to four bytes, so that no size of chunks falls between characters only.
    let international = "aä日🚀b".repeat(bytes / "aä日🚀b".len());
    check_arrive(&t, vec![event(&(varied,))?, event(&(international,))?, event(&("next",))?]).await
}

pub(crate) async fn a_mebibyte_of_binary_arrives_whole(t: TestCluster) -> Checked {
    let bytes = t.scaled_within_limit(1 << 20).await? * 5 / 8;
    let varied: Bytes = (0..bytes).map(|n| (n * 7 + n / 256) as u8).collect();
    check_arrive(&t, vec![event(&(varied,))?, event(&("next",))?]).await
}

pub(crate) async fn every_size_around_powers_of_two_arrives_whole(t: TestCluster) -> Checked {
    let mut payloads = Vec::new();
    for power in [7, 8, 12, 13, 14, 15, 16, 17] {
        let size = t.within_limit(1 << power).await?;
        for bytes in [size - 40, size - 1, size, size + 1] {
            payloads.push(event(&("x".repeat(bytes),))?);
        }
    }
    check_arrive(&t, payloads).await
}

pub(crate) async fn every_size_up_to_a_page_or_two_arrives_whole(t: TestCluster) -> Checked {
    // Where an envelope fits in between, so that no size of the encoded message is left out.
    let sizes = (3_600..=4_100).chain(7_600..=8_200).step_by(10 / t.scaled(10, 1));
    check_arrive(&t, sizes.map(|bytes| event(&("x".repeat(bytes),))).collect::<Checked<_>>()?).await
}

pub(crate) async fn the_same_event_a_thousand_times_arrives_a_thousand_times(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let count = t.scaled(1000, 100);
    for _ in 0..count {
        a.emit(Target::room("x"), "same").await?;
    }
    a.settle().await?;
    sockets.iter().try_for_each(|socket| socket.got(&vec!["same"; count]))
}
