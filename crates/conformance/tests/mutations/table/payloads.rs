//! Transports that change payloads.

use std::time::Duration;

use trunkline_core::{Message, Payload, model::Delivery};

use super::{change_binary, change_text, mutation, payload};
use crate::{Mutation, broken::Defect};

/// A transport that changes the text of payloads.
fn changing(
    name: &'static str,
    change: impl Fn(&str) -> String + Send + Sync + 'static,
    fails: &[&'static str],
) -> Mutation {
    let defect = Defect::rewriting(move |message| {
        if let Some(payload) = payload(message) {
            change_text(payload, &change);
        }
    });
    mutation(name, defect, fails)
}

/// A transport that changes binary parts.
fn changing_binary(
    name: &'static str,
    change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
    fails: &[&'static str],
) -> Mutation {
    let defect = Defect::rewriting(move |message| {
        if let Some(payload) = payload(message).filter(|payload| payload.has_binary()) {
            change_binary(payload, &change);
        }
    });
    mutation(name, defect, fails)
}

pub(crate) fn all() -> Vec<Mutation> {
    let mut all = texts();
    all.extend(binary());
    all.extend(sizes());
    all
}

fn texts() -> Vec<Mutation> {
    vec![
        changing(
            "loses characters beyond the basic plane",
            |text| text.replace('🚀', "?"),
            &[
                "payloads::a_mebibyte_of_text_arrives_whole",
                "broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions",
                "broadcast::room_names_that_look_alike_are_different_rooms",
                "namespaces::namespace_names_that_look_alike_are_different_namespaces",
                "payloads::strings_keep_every_character",
            ],
        ),
        changing(
            "composes characters",
            |text| text.replace("e\u{301}", "é"),
            &["payloads::strings_keep_every_character"],
        ),
        changing(
            "drops zero bytes",
            |text| text.replace("\\u0000", ""),
            &[
                "broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions",
                "broadcast::room_names_that_look_alike_are_different_rooms",
                "payloads::strings_keep_every_character",
            ],
        ),
        changing(
            "writes line separators as line breaks",
            |text| text.replace('\u{2028}', "\\n"),
            &["payloads::strings_keep_every_character"],
        ),
        changing("loses backslashes", |text| text.replace("\\\\", ""), &["payloads::strings_keep_every_character"]),
        changing("trims strings", |text| text.replace("\" \"", "\"\""), &["payloads::strings_keep_every_character"]),
        changing(
            "rounds floats to single precision",
            |text| text.replace("0.3333333333333333", "0.33333334"),
            &["payloads::floats_keep_every_digit"],
        ),
        changing("loses what is smallest", |text| text.replace("5e-324", "0"), &["payloads::floats_keep_every_digit"]),
        changing(
            "takes integers for floats",
            |text| text.replace("9007199254740993", "9007199254740992"),
            &["payloads::integers_beyond_2_to_the_53_keep_every_digit"],
        ),
        changing(
            "keeps 32 bits of integers",
            |text| text.replace("4294967296", "0"),
            &["payloads::integers_beyond_2_to_the_53_keep_every_digit"],
        ),
        changing(
            "drops trailing nulls",
            |text| text.replace(",null]", "]"),
            &[
                "emitter::binary_and_flags_arrive_unchanged",
                "payloads::many_arguments_arrive_in_order",
                "payloads::null_and_booleans_stay_unchanged",
            ],
        ),
        changing(
            "takes null for false",
            |text| text.replace("null", "false"),
            &[
                "broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions",
                "broadcast::room_names_that_look_alike_are_different_rooms",
                "emitter::binary_and_flags_arrive_unchanged",
                "payloads::a_messagepack_payload_keeps_its_meaning",
                "payloads::many_arguments_arrive_in_order",
                "payloads::null_and_booleans_stay_unchanged",
                "payloads::strings_keep_every_character",
            ],
        ),
        changing(
            "drops keys that are special to it",
            |text| text.replace(r#""$set":{"x":1},"#, ""),
            &["payloads::nested_objects_keep_keys_and_their_order"],
        ),
        changing(
            "sorts keys",
            |text| text.replace(r#""b":1,"a":2"#, r#""a":2,"b":1"#),
            &["payloads::nested_objects_keep_keys_and_their_order"],
        ),
        changing(
            "flattens deeply nested values",
            |text| {
                text.replace(&"]}".repeat(40), &"]}".repeat(39)).replacen(
                    r#"{"a":["#,
                    "",
                    usize::from(text.contains(&"]}".repeat(40))),
                )
            },
            &["payloads::nested_objects_keep_keys_and_their_order"],
        ),
        changing(
            "writes dates as numbers",
            |text| text.replace(r#""1970-01-01T00:00:01.000Z""#, "1000"),
            &["payloads::dates_arrive_as_iso_8601_text"],
        ),
        changing(
            "adds an argument where there is none",
            |text| if text.contains(',') { text.to_owned() } else { text.replace(']', ",null]") },
            &[
                "broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions",
                "broadcast::room_names_that_look_alike_are_different_rooms",
                "namespaces::namespace_names_that_look_alike_are_different_namespaces",
                "payloads::an_event_without_arguments_arrives_without_arguments",
                "payloads::strings_keep_every_character",
            ],
        ),
        changing(
            "passes a hundred arguments at most",
            |text| if text.contains(",198,199]") { text.replace(",198,199]", "]") } else { text.to_owned() },
            &["payloads::many_arguments_arrive_in_order"],
        ),
    ]
}

fn binary() -> Vec<Mutation> {
    vec![
        changing_binary(
            "corrupts binary",
            |part| part.iter().map(|byte| byte & 0x7f).collect(),
            &[
                "payloads::many_binary_attachments_arrive_in_order_beside_long_text",
                "emitter::binary_and_flags_arrive_unchanged",
                "payloads::a_mebibyte_of_binary_arrives_whole",
                "payloads::binary_arrives_at_any_depth",
                "server_side::events_and_answers_carry_binary",
            ],
        ),
        changing_binary(
            "reads binary as text",
            |part| String::from_utf8_lossy(part).into_owned().into_bytes(),
            &[
                "payloads::many_binary_attachments_arrive_in_order_beside_long_text",
                "emitter::binary_and_flags_arrive_unchanged",
                "payloads::a_mebibyte_of_binary_arrives_whole",
                "payloads::binary_arrives_at_any_depth",
                "server_side::events_and_answers_carry_binary",
            ],
        ),
        changing_binary(
            "pads empty binary",
            |part| if part.is_empty() { vec![0] } else { part.to_vec() },
            &["payloads::empty_binary_stays_binary", "server_side::events_and_answers_carry_binary"],
        ),
        mutation(
            "passes one binary part",
            Defect::rewriting(|message| {
                if let Some(payload) = payload(message)
                    && payload.to_json().attachments.len() > 1
                {
                    *payload = Payload::from_trusted_json("[\"event\"]", Vec::new());
                }
            }),
            &[
                "payloads::many_binary_attachments_arrive_in_order_beside_long_text",
                "payloads::binary_arrives_at_any_depth",
                "payloads::empty_binary_stays_binary",
                "server_side::events_and_answers_carry_binary",
            ],
        ),
    ]
}

fn sizes() -> Vec<Mutation> {
    vec![
        mutation(
            "loses everything above 64 KB",
            losing_above(64 << 10),
            &[
                "payloads::a_mebibyte_of_text_arrives_whole",
                "payloads::every_size_around_powers_of_two_arrives_whole",
                "order::ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order",
                "...",
            ],
        ),
        changing(
            "cuts text at 32 KB",
            |text| if text.len() > 32 << 10 { format!("{}\"]", &text[..32 << 10]) } else { text.to_owned() },
            &["payloads::a_mebibyte_of_text_arrives_whole", "..."],
        ),
        mutation(
            "takes equal messages for one",
            Defect::arriving(|last: &mut Option<Message>, delivery| {
                let Delivery::Message { message, .. } = &delivery else { return vec![(Duration::ZERO, delivery)] };
                let is_equal = last.as_ref() == Some(message) && matches!(message, Message::Broadcast { .. });
                *last = Some(message.clone());
                if is_equal { Vec::new() } else { vec![(Duration::ZERO, delivery)] }
            }),
            &[
                "payloads::the_same_event_a_thousand_times_arrives_a_thousand_times",
                "order::the_last_message_before_a_pause_arrives",
                "...",
            ],
        ),
        changing_binary(
            "cuts binary at 32 KB",
            |part| part[..part.len().min(32 << 10)].to_vec(),
            &["payloads::a_mebibyte_of_binary_arrives_whole", "..."],
        ),
    ]
}

fn losing_above(bytes: usize) -> Defect {
    Defect::losing(move |message| message.weight() > bytes)
}
