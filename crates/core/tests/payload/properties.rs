//! Properties of every payload.

use proptest::prelude::*;
use trunkline_core::payload::{Attachments, Payload, Rules, msgpack};

use crate::tree::{arguments, tree};

const RULES: [Rules; 2] = [Rules::Notepack, Rules::MsgpackJs];

proptest! {
    #[test]
    fn both_encodings_of_a_value_mean_the_same(tree in tree()) {
        let json = tree.to_json();
        for rules in RULES {
            let packed = tree.to_msgpack(rules);
            prop_assert_eq!(&packed, &json);
            prop_assert_eq!(packed.has_binary(), json.has_binary());
        }
    }

    #[test]
    fn conversion_there_and_back_restores_every_byte(tree in tree()) {
        let json = tree.to_json();
        for rules in RULES {
            let packed = tree.to_msgpack(rules);
            prop_assert_eq!(packed.to_json(), json.to_json());
            prop_assert_eq!(json.to_msgpack(rules).unwrap(), packed.as_msgpack().unwrap());
        }
    }

    #[test]
    fn lengths_known_and_unknown_give_the_same_bytes(tree in tree()) {
        let (mut sized, mut unsized_) = (Vec::new(), Vec::new());
        tree.write(&mut msgpack::Writer::new(&mut sized, Rules::Notepack), true);
        tree.write(&mut msgpack::Writer::new(&mut unsized_, Rules::Notepack), false);
        prop_assert_eq!(sized, unsized_);
    }

    #[test]
    fn json_for_wires_without_binary_is_valid(tree in tree()) {
        let plain = tree.to_msgpack(Rules::Notepack).to_json_plain();
        prop_assert_eq!(tree.to_json().to_json_plain(), plain.clone());
        prop_assert!(serde_json::from_str::<serde_json::Value>(&plain).is_ok());
    }

    #[test]
    fn an_appended_offset_is_the_last_argument(tree in arguments(), offset in any::<String>()) {
        let appended = [tree.to_json(), tree.to_msgpack(Rules::Notepack)].map(|payload| payload.with_appended_text(&offset));
        prop_assert_eq!(&appended[0], &appended[1]);
        let values = appended[0].to_json();
        let values: Vec<serde_json::Value> = serde_json::from_str(&values.text).unwrap();
        prop_assert_eq!(values.last().and_then(|value| value.as_str()), Some(&*offset));
    }

    #[test]
    fn serde_json_reads_the_written_json(tree in tree()) {
        let payload = tree.to_json();
        if !payload.has_binary() {
            let theirs: serde_json::Value = serde_json::from_str(payload.as_json_text().unwrap()).unwrap();
            prop_assert_eq!(tree.to_msgpack(Rules::Notepack).deserialize::<serde_json::Value>().unwrap(), theirs.clone());
            prop_assert_eq!(Payload::value(&theirs).unwrap().deserialize::<serde_json::Value>().unwrap(), theirs);
        }
    }

    #[test]
    fn rmp_serde_and_payloads_read_the_messagepack_of_each_other(tree in tree()) {
        let packed = tree.to_msgpack(Rules::Notepack);
        if !packed.has_binary() {
            let theirs: serde_json::Value = rmp_serde::from_slice(packed.as_msgpack().unwrap()).unwrap();
            prop_assert_eq!(packed.deserialize::<serde_json::Value>().unwrap(), theirs.clone());
            let written = Payload::from_msgpack(rmp_serde::to_vec(&theirs).unwrap()).unwrap();
            prop_assert_eq!(written.deserialize::<serde_json::Value>().unwrap(), theirs);
        }
    }

    #[test]
    fn json_is_accepted_exactly_if_serde_json_accepts_it(text in "[\\[\\]{}\",:0-9.eE+\\-a-f\\\\nultrue ]{0,24}") {
        let accepted = Payload::from_json(text.clone()).is_ok();
        prop_assert_eq!(accepted, serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(text) = String::from_utf8(bytes.clone()) {
            call_every_method(Payload::from_json(text));
        }
        call_every_method(Payload::from_msgpack(bytes));
    }

    #[test]
    fn damaged_payloads_never_panic(tree in tree(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = tree.to_msgpack(Rules::MsgpackJs).as_msgpack().unwrap().to_vec();
        for (at, byte) in &damage {
            *at.get_mut(&mut bytes) = *byte;
        }
        call_every_method(Payload::from_msgpack(bytes));
        let json = tree.to_json().to_json();
        let mut bytes = json.text.as_bytes().to_vec();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte % 128;
        }
        if let Ok(text) = String::from_utf8(bytes) {
            call_every_method(Payload::from_json_with(text.clone(), json.attachments.clone()));
            call_every_method(Ok(Payload::from_trusted_json(text, json.attachments)));
        }
    }

    #[test]
    fn text_that_was_trusted_wrongly_never_panics(text in any::<String>(), nearly in "[\\[\\]{}\",:0\\\\ua-f]{0,30}") {
        for text in [text, nearly] {
            call_every_method(Ok(Payload::from_trusted_json(text.clone(), Attachments::NONE)));
            call_every_method(Ok(Payload::from_trusted_json(text, vec![vec![1, 2].into()])));
        }
    }
}

/// Calls every method of a payload.
fn call_every_method(payload: trunkline_core::Result<Payload>) {
    let Ok(payload) = payload else { return };
    for rules in RULES {
        if let Ok(packed) = payload.to_msgpack(rules) {
            assert!(payload.as_msgpack().is_some() || Payload::from_msgpack(packed).is_ok());
        }
    }
    let json = payload.to_json();
    assert!(payload.as_msgpack().is_none() || Payload::from_json(json.text).is_ok());
    let _ = (payload.to_json_plain(), payload.event_name(), payload.is_args(), payload.has_binary(), payload.len());
    let _ = (payload.deserialize::<serde_json::Value>(), payload.arguments::<Vec<serde_json::Value>>());
    let _ = (payload == payload.with_appended_text("x"), format!("{payload:?}"));
}
