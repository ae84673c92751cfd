//! Histories that restore sessions nearly right.

use trunkline_core::{Room, SessionId};

use super::recovery::{Forgetting, forgetting};
use crate::Mutation;

pub(crate) fn all() -> Vec<Mutation> {
    let it = Forgetting::default;
    let comes_back = "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed";
    vec![
        forgetting(
            "replays all but the last",
            Forgetting { missed: Some(|missed| drop(missed.pop())), ..it() },
            &["recovery::replay_continues_after_any_offset"],
        ),
        paging(),
        forgetting(
            "gives packets of a session another's offset",
            Forgetting {
                restored: Some(|restored| {
                    if let Some(first) = restored.missed.first().map(|first| first.offset.clone()) {
                        restored.missed.iter_mut().for_each(|missed| missed.offset = first.clone());
                    }
                }),
                ..it()
            },
            &["recovery::a_session_brings_what_was_sent_to_its_socket_and_not_what_its_socket_sent", comes_back],
        ),
        forgetting(
            "keeps number rooms of sessions as texts",
            Forgetting {
                persist: Some(|session| session.rooms.iter_mut().for_each(|room| *room = Room::new(room.to_text()))),
                ..it()
            },
            &[comes_back],
        ),
        forgetting(
            "keeps a hundred rooms of a session",
            Forgetting { persist: Some(|session| session.rooms.truncate(100)), ..it() },
            &[comes_back],
        ),
        forgetting(
            "keeps no binary data of sessions",
            Forgetting {
                persist: Some(|session| {
                    session.data = session.data.take().filter(|data| !data.has_binary());
                }),
                ..it()
            },
            &[comes_back],
        ),
        forgetting(
            "does not distinguish capitals in ids of sessions",
            Forgetting { id: Some(|id| SessionId::new(id.as_str().to_lowercase()).unwrap()), ..it() },
            &["recovery::an_unknown_session_is_not_restored"],
        ),
        forgetting(
            "cuts ids of sessions",
            Forgetting {
                id: Some(|id| SessionId::new(id.as_str().chars().take(30).collect::<String>()).unwrap()),
                ..it()
            },
            &["recovery::an_unknown_session_is_not_restored"],
        ),
    ]
}

/// The broker returns at most a thousand messages at once, and the history does not read on.
fn paging() -> Mutation {
    let how = Forgetting { missed: Some(|missed| missed.truncate(1000)), ..Forgetting::default() };
    let mutation =
        forgetting("replays a thousand at most", how, &["recovery::missed_packets_are_replayed_whole_and_in_order"]);
    Mutation { setup: mutation.setup.scaled_down_by(1), ..mutation }
}
