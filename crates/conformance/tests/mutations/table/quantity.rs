//! Transports that fail at many, large or equal messages.

use std::{collections::HashMap, time::Duration};

use trunkline_core::{Answer, Message, NodeId, Payload, Response, model::Delivery};

use super::{broadcast, change_text, is_broadcast, mutation, payload};
use crate::{Mutation, broken::Defect};

pub(crate) fn all() -> Vec<Mutation> {
    let mut all = many();
    all.extend(big());
    all.extend(same());
    all
}

fn rooms_to_move(message: &mut Message) -> Option<&mut Vec<trunkline_core::Room>> {
    match message {
        Message::Join { rooms, .. } | Message::Leave { rooms, .. } => Some(rooms),
        _ => None,
    }
}

/// A transport that changes answers.
fn changing(name: &'static str, change: fn(&mut Answer), fails: &[&'static str]) -> Mutation {
    let defect = Defect::answering(move |mut response| {
        change(&mut response.answer);
        vec![response]
    });
    mutation(name, defect, fails)
}

fn many() -> Vec<Mutation> {
    vec![
        mutation(
            "sorts binary parts by their numbers as texts",
            Defect::rewriting(|message| {
                if let Some(payload) = payload(message).filter(|payload| payload.has_binary()) {
                    let json = payload.to_json();
                    let mut parts: Vec<_> = json.attachments.iter().cloned().enumerate().collect();
                    parts.sort_by_key(|(number, _)| number.to_string());
                    let parts: Vec<_> = parts.into_iter().map(|(_, part)| part).collect();
                    *payload = Payload::from_trusted_json(json.text, parts);
                }
            }),
            &["payloads::many_binary_attachments_arrive_in_order_beside_long_text"],
        ),
        mutation(
            "leaves out members of a hundred rooms at most",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.except.truncate(100);
                }
            }),
            &["broadcast::except_leaves_out_the_members_of_hundreds_of_rooms"],
        ),
        mutation(
            "joins and leaves a hundred rooms at most",
            Defect::rewriting(|message| {
                if let Some(rooms) = rooms_to_move(message) {
                    rooms.truncate(100);
                }
            }),
            &["sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed"],
        ),
        changing(
            "tells sixteen rooms of a socket",
            |answer| {
                if let Answer::Sockets(sockets) = answer {
                    sockets.iter_mut().for_each(|socket| socket.rooms.truncate(16));
                }
            },
            &["sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed"],
        ),
        changing(
            "tells sixty-four rooms of a node",
            |answer| {
                if let Answer::Rooms(rooms) = answer {
                    rooms.truncate(64);
                }
            },
            &["sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed"],
        ),
        changing(
            "counts clients in one byte",
            |answer| {
                if let Answer::ClientCount(count) = answer {
                    *count &= 0xff;
                }
            },
            &["acks::hundreds_of_equal_acknowledgements_are_all_returned"],
        ),
        mutation(
            "passes sixteen acknowledgements of a request",
            Defect::arriving(|passed: &mut HashMap<String, usize>, delivery| {
                if let Delivery::Response { response: Response { request, answer: Answer::Ack(_) }, .. } = &delivery {
                    let count = passed.entry(request.to_string()).or_default();
                    *count += 1;
                    if *count > 16 {
                        return Vec::new();
                    }
                }
                vec![(Duration::ZERO, delivery)]
            }),
            &["acks::hundreds_of_equal_acknowledgements_are_all_returned"],
        ),
    ]
}

/// A transport that loses broadcasts of one kind above 32 KB.
fn losing_big(name: &'static str, which: fn(&Message) -> bool, fails: &[&'static str]) -> Mutation {
    mutation(name, Defect::losing(move |message| which(message) && message.weight() > 32 << 10), fails)
}

fn big() -> Vec<Mutation> {
    let one_size = |bytes: usize| {
        move |message: &Message| {
            is_broadcast(message) && matches!(message, Message::Broadcast { payload, .. } if payload.len() == bytes)
        }
    };
    let exactly = |name, bytes| {
        let fails = &["payloads::every_size_up_to_a_page_or_two_arrives_whole"];
        let mutation = mutation(name, Defect::losing(one_size(bytes)), fails);
        Mutation { setup: mutation.setup.scaled_down_by(1), ..mutation }
    };
    vec![
        exactly("loses what is exactly as long as a page", 4096),
        exactly("loses what is exactly as long as its notifications", 7999),
        mutation(
            "reads chunks of 16 KB as text",
            Defect::rewriting(|message| {
                if let Some(payload) = payload(message).filter(|payload| payload.len() > 16 << 10) {
                    change_text(payload, |text| {
                        text.as_bytes().chunks(16 << 10).map(String::from_utf8_lossy).collect()
                    });
                }
            }),
            &["payloads::a_mebibyte_of_text_arrives_whole"],
        ),
        losing_big(
            "loses binary beside long text",
            |message| matches!(message, Message::Broadcast { payload, .. } if payload.has_binary() && payload.to_json().text.len() > 32 << 10),
            &["payloads::many_binary_attachments_arrive_in_order_beside_long_text"],
        ),
        losing_big(
            "loses what is big and volatile",
            |message| matches!(message, Message::Broadcast { target, .. } if target.flags.is_volatile()),
            &["broadcast::volatile_broadcasts_reach_sockets_that_are_ready"],
        ),
        losing_big(
            "loses big questions to clients",
            |message| matches!(message, Message::Broadcast { request: Some(_), .. }),
            &["acks::large_broadcasts_and_acknowledgements_arrive_whole"],
        ),
        losing_big(
            "loses big server-side events",
            |message| matches!(message, Message::ServerSideEmit { .. }),
            &["server_side::large_events_and_answers_arrive_whole"],
        ),
        mutation(
            "loses big answers of servers",
            Defect::answering(|response| match &response.answer {
                Answer::ServerSideEmit(Some(value)) if value.len() > 32 << 10 => Vec::new(),
                _ => vec![response],
            }),
            &["server_side::large_events_and_answers_arrive_whole"],
        ),
        mutation(
            "loses what is for more than 4 KB of rooms",
            Defect::losing(|message| {
                matches!(message, Message::Broadcast { target, .. }
                    if target.rooms.iter().map(|room| room.to_text().len()).sum::<usize>() > 4096)
            }),
            &["broadcast::to_hundreds_of_rooms_reaches_the_members_of_each"],
        ),
        mutation(
            "loses what is big of emitters",
            Defect::arriving(|(): &mut (), delivery| match &delivery {
                Delivery::Message { from: Some(from), message, .. }
                    if from.is_emitter() && message.weight() > 10_000 =>
                {
                    Vec::new()
                }
                _ => vec![(Duration::ZERO, delivery)],
            }),
            &["emitter::a_thousand_broadcasts_arrive_complete_and_in_order"],
        ),
    ]
}

/// A transport that drops equal messages as repeats, as PostgreSQL does within a transaction.
fn collapsing(name: &'static str, which: fn(Option<&NodeId>, &Message) -> bool, fails: &[&'static str]) -> Mutation {
    let defect = Defect::arriving(move |last: &mut Option<Message>, delivery| {
        if let Delivery::Message { from, message, .. } = &delivery
            && which(from.as_ref(), message)
            && last.replace(message.clone()).as_ref() == Some(message)
        {
            return Vec::new();
        }
        vec![(Duration::ZERO, delivery)]
    });
    mutation(name, defect, fails)
}

/// A transport that drops equal answers as repeats, whichever node sent them.
fn collapsing_answers(name: &'static str, which: fn(&Answer) -> bool, fails: &[&'static str]) -> Mutation {
    let defect = Defect::arriving(move |seen: &mut Vec<Response>, delivery| {
        if let Delivery::Response { response, .. } = &delivery
            && which(&response.answer)
        {
            let mut response = response.clone();
            if let Answer::Ack(ack) = &mut response.answer {
                ack.socket = None;
            }
            if seen.contains(&response) {
                return Vec::new();
            }
            seen.push(response);
        }
        vec![(Duration::ZERO, delivery)]
    });
    mutation(name, defect, fails)
}

fn same() -> Vec<Mutation> {
    vec![
        collapsing(
            "takes equal messages of emitters for one",
            |from, _| from.is_some_and(NodeId::is_emitter),
            &["emitter::equal_events_of_two_emitters_arrive_each_time"],
        ),
        collapsing(
            "takes equal server-side events for one",
            |_, message| matches!(message, Message::ServerSideEmit { .. }),
            &["server_side::equal_events_and_equal_answers_count_each_time"],
        ),
        collapsing_answers(
            "takes equal acknowledgements for one",
            |answer| matches!(answer, Answer::Ack(_)),
            &["acks::hundreds_of_equal_acknowledgements_are_all_returned"],
        ),
        collapsing_answers(
            "takes equal answers of servers for one",
            |answer| matches!(answer, Answer::ServerSideEmit(_)),
            &["server_side::equal_events_and_equal_answers_count_each_time"],
        ),
    ]
}
