//! Conditions under which a case applies, decided by declared abilities and never by a backend's name.

use crate::kit::Abilities;

macro_rules! needs {
    ($($(#[$doc:meta])* $name:ident: |$abilities:ident| $met:expr, $reason:literal;)*) => {
        /// Condition on backend and server under which a [`Case`](crate::Case) applies.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Need {
            $($(#[$doc])* $name,)*
        }

        impl Need {
            /// Returns why a case with this need does not apply, `None` if it does.
            #[must_use]
            pub fn unmet(self, abilities: &Abilities) -> Option<&'static str> {
                match self {
                    $(Self::$name => {
                        let $abilities = abilities;
                        if $met { None } else { Some($reason) }
                    })*
                }
            }
        }
    };
}

needs! {
    /// The transport keeps the order of one sender's messages across rooms and kinds of messages.
    TotalOrder: |it| it.capabilities.total_order, "no order across rooms is promised";
    /// The transport keeps the order of acknowledged broadcasts among plain ones.
    AcknowledgedInOrder: |it| it.capabilities.acknowledged_in_order, "acknowledged broadcasts may overtake plain ones";
    /// Messages are numbered: repeats are dropped and gaps are noticed.
    Numbered: |it| it.capabilities.numbered, "messages are not numbered";
    /// A node that leaves announces it.
    AnnouncedLeave: |it| it.capabilities.announced_leave, "leaving is not announced";
    /// Answers carry the id of the answering node.
    NamedAnswers: |it| it.capabilities.named_answers, "answers do not name their node";
    /// The backend has a history: broadcasts are kept and sessions can be restored.
    History: |it| it.capabilities.history, "no history is kept";
    /// The backend has no history.
    NoHistory: |it| !it.capabilities.history, "a history is kept";
    /// The transport has a limit on message size, of at most 32 MiB, so that the cases can reach it.
    Limit: |it| it.capabilities.max_message_bytes.is_some_and(|limit| limit <= LARGEST_TESTED_LIMIT),
        "there is no limit, or too big a one";
    /// Broadcasts to a room arrive without the broker having been told of the room first.
    NoInterest: |it| !it.interest, "rooms are made known to the broker, which takes a moment";
    /// The server keeps number rooms apart from text rooms.
    NumberRooms: |it| it.server.number_rooms, "the server has no number rooms";
    /// The server can close the connection of a client.
    CloseConnections: |it| it.server.close_connections, "the server cannot close connections";
}

/// Largest message size limit that the cases try to reach, in bytes.
const LARGEST_TESTED_LIMIT: usize = 32 << 20;
