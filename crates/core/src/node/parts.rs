//! Answers in parts, because the broker does not take them whole.

use std::{collections::VecDeque, ops::Range};

use crate::{
    error::{Error, ErrorKind, Result},
    model::{Answer, NodeId, NodeKey, Part, Response, SocketInfo, weight_of_rooms},
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
pub(super) async fn send(transport: &dyn Transport, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
    let Response { request, answer } = response;
    let send = |answer| {
        let response = Response { request: request.clone(), answer };
        async move { transport.send(from, to, &response).await }
    };
    let most = transport.capabilities().max_message_bytes.map_or(usize::MAX, |limit| limit / 2);
    let (mut index, mut refused) = (0, None::<Error>);
    let mut pieces = VecDeque::new();
    pieces.push_back(0..entries(answer));
    while let Some(piece) = pieces.pop_front() {
        let error = if piece.len() > 1 && weight(answer, &piece) > most {
            None
        } else {
            let is_last = pieces.is_empty() && refused.is_none();
            match send(Answer::Part(Part { index, is_last, answer: Box::new(some(answer, &piece)) })).await {
                Ok(()) => {
                    index += 1;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::TooLarge => Some(error),
                Err(error) => return Err(error),
            }
        };
        if piece.len() > 1 {
            let middle = piece.start + piece.len() / 2;
            pieces.push_front(middle..piece.end);
            pieces.push_front(piece.start..middle);
        } else {
            refused = refused.or(error);
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

/// As [`Answer::weight`], of some entries.
fn weight(answer: &Answer, piece: &Range<usize>) -> usize {
    match answer {
        Answer::Sockets(sockets) => sockets[piece.clone()].iter().map(SocketInfo::weight).sum(),
        Answer::Rooms(rooms) => weight_of_rooms(&rooms[piece.clone()]),
        _ => answer.weight(),
    }
}

/// An answer with some of the entries.
fn some(answer: &Answer, piece: &Range<usize>) -> Answer {
    match answer {
        Answer::Sockets(sockets) => Answer::Sockets(sockets[piece.clone()].to_vec()),
        Answer::Rooms(rooms) => Answer::Rooms(rooms[piece.clone()].to_vec()),
        _ => answer.clone(),
    }
}
