//! Messages at the limit of the transport, below and above it.

use bytes::Bytes;
use trunkline_core::{ErrorKind, Payload, RequestError, Target};

use super::{check_arrive, event};
use crate::kit::{
    Checked, ClientSpec, Failure, TestCluster, TestNode, check, check_eq,
    values::{fetched_ids, ids, ids_as_answers, texts},
};

/// An event of `bytes` bytes, built as text: without optimization, serializing it would take most of the time.
fn sized(bytes: usize) -> Checked<Payload> {
    let text = "x".repeat(bytes - r#"["event",""]"#.len());
    Ok(Payload::from_json(format!(r#"["event","{text}"]"#))?)
}

/// Broadcasts an event of `bytes` bytes, and returns whether it was accepted. Fails if it is refused for anything but
/// its size.
async fn is_accepted(node: &TestNode, room: &'static str, bytes: usize) -> Checked<bool> {
    match node.broadcast(Target::room(room), sized(bytes)?).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::TooLarge => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Maximum number of bytes that a transport adds to a payload.
const ENVELOPE: usize = 4096;

/// Size of the largest accepted payload, give or take the few bytes by which message numbers grow.
async fn largest_accepted(node: &TestNode, limit: usize) -> Checked<usize> {
    let (mut accepted, mut refused) = (limit - ENVELOPE, limit + 1);
    check(is_accepted(node, "probe", accepted).await?, format!("{accepted} bytes are refused; the limit is {limit}"))?;
    check(!is_accepted(node, "probe", refused).await?, format!("{refused} bytes are accepted; the limit is {limit}"))?;
    while refused - accepted > 1 {
        let middle = accepted.midpoint(refused);
        if is_accepted(node, "probe", middle).await? {
            accepted = middle;
        } else {
            refused = middle;
        }
    }
    Ok(accepted)
}

async fn limit(t: &TestCluster) -> Checked<usize> {
    let limit = t.capabilities().await?.max_message_bytes;
    limit.ok_or_else(|| Failure::new("there is no limit"))
}

pub(crate) async fn a_message_just_below_the_limit_arrives_whole(t: TestCluster) -> Checked {
    let bytes = limit(&t).await? - ENVELOPE;
    check_arrive(&t, vec![sized(bytes)?, event(&("next",))?]).await?;
    check_no_binary_is_lost_near(&t, bytes).await
}

/// Checks that binary up to `bytes` bytes arrives whole or is refused. Some wire formats encode it as text, which takes
/// a third more.
async fn check_no_binary_is_lost_near(t: &TestCluster, bytes: usize) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let mut accepted = Vec::new();
    for eighths in 4..=8 {
        let payload = event(&(Bytes::from(vec![0xff; bytes / 8 * eighths]),))?;
        match a.broadcast(Target::room("x"), payload.clone()).await {
            Ok(()) => accepted.push(payload),
            Err(error) => check_eq(error.kind(), ErrorKind::TooLarge, "kind of the error")?,
        }
    }
    a.settle().await?;
    let arrived: Vec<_> = socket.packets().into_iter().map(|packet| packet.payload).collect();
    let is_same =
        arrived.len() == accepted.len() && arrived.iter().zip(&accepted).all(|(one, other)| one.same_meaning(other));
    check(is_same, format!("{} binary events were accepted, {} arrived", accepted.len(), arrived.len()))
}

pub(crate) async fn a_message_at_the_limit_arrives_whole(t: TestCluster) -> Checked {
    let limit = limit(&t).await?;
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["limit"]).await?;
    let mut bytes = largest_accepted(&a, limit).await? + 8;
    while !is_accepted(&a, "limit", bytes).await? {
        bytes -= 1;
    }
    a.settle().await?;
    check_eq(socket.only_packet()?.payload.len(), bytes, "bytes that arrived")
}

pub(crate) async fn a_message_above_the_limit_is_refused_and_nothing_of_it_arrives(t: TestCluster) -> Checked {
    let limit = limit(&t).await?;
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["limit"]).await?, b.socket(["limit"]).await?];
    for bytes in [limit + 1, limit * 2] {
        let refused = a.broadcast(Target::room("limit"), sized(bytes)?).await;
        let error = refused.err().ok_or_else(|| Failure::new(format!("{bytes} bytes are accepted")))?;
        check_eq(error.kind(), ErrorKind::TooLarge, "kind of the error")?;
        check(!error.is_retryable(), "trying again is no use")?;
        let tells_limit = error.to_string().contains(&limit.to_string());
        check(tells_limit, format!("the error does not tell the limit of {limit} bytes: {error}"))?;
    }
    a.emit(Target::room("limit"), "next").await?;
    a.settle().await?;
    sockets.iter().try_for_each(|socket| socket.got(&["next"]))
}

pub(crate) async fn a_request_above_the_limit_is_refused_too(t: TestCluster) -> Checked {
    let limit = limit(&t).await?;
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    b.answer_server_side(None);
    let emitted = a.server_side_emit_with_ack(sized(limit + 1)?, None).await;
    check_eq(emitted.err().map(|error| error.kind()), Some(ErrorKind::TooLarge), "server-side emit")?;
    let asked = a.broadcast_with_ack(Target::all(), sized(limit + 1)?).await;
    check_eq(asked.err().map(|error| error.kind()), Some(ErrorKind::TooLarge), "acknowledged broadcast")?;
    let emitter = t.emitter().await?;
    let emitted = (*emitter).emit(Target::all(), sized(limit + 1)?).await;
    check_eq(emitted.err().map(|error| error.kind()), Some(ErrorKind::TooLarge), "broadcast of an emitter")?;
    check_eq(a.server_side_emit_with_ack(event(&())?, None).await?.len(), 1, "answers to the next request")?;
    a.settle().await?;
    emitter.settle().await?;
    check_eq(b.server_side_events().len(), 1, "server-side events")?;
    sockets.iter().try_for_each(|socket| socket.got(&[]))
}

/// Sockets of a node whose descriptions together are twice as large as a message may be.
const SOCKETS: usize = 1_200;

pub(crate) async fn an_answer_above_the_limit_arrives_in_parts(t: TestCluster) -> Checked {
    let limit = limit(&t).await?;
    let [a, b] = t.nodes().await?;
    let cookie = "x".repeat(2 * limit / SOCKETS);
    let handshake = Payload::from_json(format!(r#"{{"headers":{{"cookie":"{cookie}"}}}}"#))?;
    let spec = ClientSpec::new().room("x").handshake(handshake.clone());
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(b.connect(spec.clone()).await?);
    }
    for _ in 1..=2 {
        let fetched = a.fetch_sockets(Target::room("x").timeout(t.timeout())).await?;
        check_eq(fetched_ids(&fetched), ids(&sockets), "fetched sockets")?;
        let is_whole = |details: &Payload| details.same_meaning(&handshake);
        let whole = fetched.iter().filter(|socket| socket.handshake.as_ref().is_some_and(is_whole)).count();
        check_eq(whole, SOCKETS, "sockets with their handshake")?;
        check(fetched.iter().all(|socket| socket.node.as_ref() == Some(b.id())), "a socket of another node")?;
    }
    let own = b.fetch_sockets(Target::room("x")).await?;
    check_eq(own.len(), SOCKETS, "sockets fetched by their own node")
}

/// The answers that arrived, beside the error that says how large another one is and how large it may be.
#[track_caller]
fn too_large<T>(result: Result<T, RequestError<T>>, b: &TestNode, limit: usize) -> Checked<T> {
    let error = result.err().ok_or_else(|| Failure::new("the request did not fail"))?;
    check_eq(error.kind(), ErrorKind::TooLarge, "kind of the error")?;
    let text = error.to_string();
    check(text.contains(b.id().as_str()), format!("the error does not name the node: {text}"))?;
    let numbers = text.split(|character: char| !character.is_ascii_digit()).filter_map(|number| number.parse().ok());
    let numbers: Vec<usize> = numbers.collect();
    let names_both = numbers.contains(&limit) && numbers.iter().any(|number| *number > limit);
    check(names_both, format!("the error does not name the size and the limit of {limit} bytes: {text}"))?;
    let incomplete = error.into_incomplete().ok_or_else(|| Failure::new("the error is without the answers"))?;
    check_eq(incomplete.missing.as_slice(), [b.id().clone()], "nodes that are missing")?;
    Ok(incomplete.received)
}

pub(crate) async fn an_answer_that_cannot_be_divided_is_an_error_that_names_its_size_and_the_limit(
    t: TestCluster,
) -> Checked {
    let limit = limit(&t).await?;
    let [a, b, c] = t.nodes().await?;
    let value = Payload::from_json(format!("\"{}\"", "x".repeat(limit)))?;
    let large = ClientSpec::new().room("x").data(value.clone()).answering(value.clone());
    b.connect(large).await?;
    let small = [b.socket(["x"]).await?, c.socket(["x"]).await?, a.socket(["x"]).await?];
    b.answer_server_side(Some(value));
    c.answer_server_side(Some(Payload::value("small")?));
    // None of them waits until its time is up.
    let target = || Target::room("x").timeout(t.timeout() * 1000);

    let received = too_large(a.fetch_sockets(target()).await, &b, limit)?;
    check_eq(fetched_ids(&received), ids(&small), "sockets that can be described")?;
    let partial = a.fetch_sockets(target().partial()).await?;
    check_eq(fetched_ids(&partial), ids(&small), "sockets of a partial result")?;
    let answers = a.server_side_emit_with_ack(event(&())?, Some(t.timeout() * 1000)).await;
    check_eq(texts(&too_large(answers, &b, limit)?), ["\"small\""], "answers of the servers")?;
    let acks = a.broadcast_with_ack(target(), event(&())?).await?.collect().await;
    let acks = too_large(acks, &b, limit)?;
    check_eq(texts(acks.iter().map(|ack| &ack.value)), ids_as_answers(&small), "acknowledgements")
}
