//! Answers in parts, because the broker does not take them whole.

use std::collections::VecDeque;

use crate::{
    error::{Error, ErrorKind, Result},
    model::{Answer, NodeId, NodeKey, Part, Response},
    transport::Transport,
};

/// Whether the answer has entries that can go in several messages.
pub(super) fn is_divisible(answer: &Answer) -> bool {
    matches!(answer, Answer::Sockets(_) | Answer::Rooms(_))
}

/// Sends an answer in parts of about half of what the broker takes, since entries grow when they are encoded.
///
/// # Errors
/// `TooLarge` if an entry is too large by itself. All others have been sent then, and the asking node has been told.
pub(super) async fn send(transport: &dyn Transport, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
    let Response { request, answer } = response;
    let send = |answer| transport.send(from, to, Response { request: request.clone(), answer });
    let most = transport.capabilities().max_message_bytes.map_or(usize::MAX, |limit| limit / 2);
    let (mut index, mut refused) = (0, None::<Error>);
    let mut pieces = VecDeque::from([answer]);
    while let Some(piece) = pieces.pop_front() {
        let error = if piece.weight() > most && entries(&piece) > 1 {
            None
        } else {
            let is_last = pieces.is_empty() && refused.is_none();
            match send(Answer::Part(Part { index, is_last, answer: Box::new(piece.clone()) })).await {
                Ok(()) => {
                    index += 1;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::TooLarge => Some(error),
                Err(error) => return Err(error),
            }
        };
        match halves(piece) {
            Some([first, second]) => {
                pieces.push_front(second);
                pieces.push_front(first);
            }
            None => refused = refused.or(error),
        }
    }
    let Some(error) = refused else { return Ok(()) };
    send(Answer::TooLarge(error.context().to_owned())).await?;
    Err(error)
}

fn entries(answer: &Answer) -> usize {
    match answer {
        Answer::Sockets(sockets) => sockets.len(),
        Answer::Rooms(rooms) => rooms.len(),
        _ => 1,
    }
}

/// Both halves of an answer with several entries.
fn halves(answer: Answer) -> Option<[Answer; 2]> {
    let middle = entries(&answer) / 2;
    match answer {
        Answer::Sockets(mut sockets) if middle > 0 => {
            let second = sockets.split_off(middle);
            Some([Answer::Sockets(sockets), Answer::Sockets(second)])
        }
        Answer::Rooms(mut rooms) if middle > 0 => {
            let second = rooms.split_off(middle);
            Some([Answer::Rooms(rooms), Answer::Rooms(second)])
        }
        _ => None,
    }
}
