//! Transports that mishandle their size limit.

use std::sync::Arc;

use trunkline_core::{Answer, Error, ErrorKind, Message};

use super::payload;
use crate::{
    Mutation,
    broken::{Defect, PerNode},
    limited::{LIMIT, limited, size},
    sound,
};

/// A transport with a limit and a defect.
fn mutation(name: &'static str, defect: Defect, fails: &[&'static str]) -> Mutation {
    let setup = sound().map(limited).map(move |backend| defect.clone().into(backend));
    Mutation { name, setup, fails: fails.to_vec() }
}

fn refusal(kind: ErrorKind, text: &str) -> Error {
    Error::new(kind, text)
}

/// A transport that refuses too large messages in a wrong way.
fn refusing(name: &'static str, error: fn() -> Error, fails: &[&'static str]) -> Mutation {
    let publish = move |transport: Arc<dyn trunkline_core::Transport>,
                        from,
                        message: Message|
          -> futures_util::future::BoxFuture<'static, _> {
        Box::pin(
            async move { if size(&message) > LIMIT { Err(error()) } else { transport.publish(&from, message).await } },
        )
    };
    mutation(name, Defect::publishing_with(publish), fails)
}

pub(crate) fn all() -> Vec<Mutation> {
    let stuck = Arc::new(PerNode::<bool>::default());
    vec![
        mutation("sound, with a limit", Defect::default(), &[]),
        mutation(
            "drops too large messages without an error",
            Defect::publishing(|_, message| if size(&message) > LIMIT { Vec::new() } else { vec![message] }),
            &[
                "payloads::a_message_above_the_limit_is_refused_and_nothing_of_it_arrives",
                "payloads::a_message_at_the_limit_arrives_whole",
                "payloads::a_request_above_the_limit_is_refused_too",
            ],
        ),
        mutation(
            "sends the beginning of too large messages",
            Defect::publishing_with(|transport, from, mut message| {
                Box::pin(async move {
                    let refused = transport.publish(&from, message.clone()).await;
                    if refused.is_err()
                        && let Some(payload) = payload(&mut message)
                    {
                        super::change_text(payload, |text| format!("{}\"]", &text[..LIMIT / 2]));
                        transport.publish(&from, message).await?;
                    }
                    refused
                })
            }),
            &[
                "payloads::a_message_above_the_limit_is_refused_and_nothing_of_it_arrives",
                "payloads::a_request_above_the_limit_is_refused_too",
                "payloads::a_message_at_the_limit_arrives_whole",
            ],
        ),
        mutation(
            "sends nothing more after a too large message",
            Defect::publishing_with(move |transport, from, message| {
                let is_stuck = stuck.with(&from, |stuck| {
                    *stuck |= size(&message) > LIMIT;
                    *stuck && size(&message) <= LIMIT
                });
                Box::pin(async move { if is_stuck { Ok(()) } else { transport.publish(&from, message).await } })
            }),
            &[
                "payloads::a_message_above_the_limit_is_refused_and_nothing_of_it_arrives",
                "payloads::a_message_at_the_limit_arrives_whole",
                "payloads::a_request_above_the_limit_is_refused_too",
            ],
        ),
        mutation(
            "has a lower limit than it says",
            Defect::publishing_with(|transport, from, message| {
                Box::pin(async move {
                    if size(&message) > LIMIT - 10_000 {
                        return Err(refusal(ErrorKind::TooLarge, "more than 262144 bytes"));
                    }
                    transport.publish(&from, message).await
                })
            }),
            &[
                "payloads::a_message_just_below_the_limit_arrives_whole",
                "payloads::a_message_at_the_limit_arrives_whole",
                "...",
            ],
        ),
        mutation(
            "loses messages at the limit",
            Defect::losing(|message| size(message) > LIMIT - 100),
            &["payloads::a_message_at_the_limit_arrives_whole"],
        ),
        mutation(
            "loses a part of an answer",
            Defect::answering(|response| {
                let is_lost = matches!(&response.answer, Answer::Part(part) if part.index == 1);
                if is_lost { Vec::new() } else { vec![response] }
            }),
            &["payloads::an_answer_above_the_limit_arrives_in_parts"],
        ),
        mutation(
            "sends the parts of an answer twice",
            Defect::answering(|response| match response.answer {
                Answer::Part(_) => vec![response.clone(), response],
                _ => vec![response],
            }),
            &[],
        ),
        mutation(
            "loses the errors of answers that are too large",
            Defect::answering(|response| match response.answer {
                Answer::TooLarge(_) => Vec::new(),
                _ => vec![response],
            }),
            &["payloads::an_answer_that_cannot_be_divided_is_an_error_that_names_its_size_and_the_limit"],
        ),
        refusing(
            "reports another kind of error",
            || refusal(ErrorKind::Broker, "more than 262144 bytes"),
            &[
                "payloads::a_message_above_the_limit_is_refused_and_nothing_of_it_arrives",
                "payloads::a_message_at_the_limit_arrives_whole",
                "payloads::a_request_above_the_limit_is_refused_too",
            ],
        ),
        refusing(
            "does not name the limit",
            || refusal(ErrorKind::TooLarge, "too many bytes"),
            &["payloads::a_message_above_the_limit_is_refused_and_nothing_of_it_arrives"],
        ),
    ]
}
