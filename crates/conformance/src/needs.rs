//! Which cases apply to a backend, decided by what it declares and never by its name.

use trunkline_core::{Backend, Capabilities, LocalAbilities};

/// What backend and server can do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    /// The transport's promises.
    pub capabilities: Capabilities,
    /// Whether rooms have to be made known to the broker before anything for them arrives.
    pub interest: bool,
    /// What the server can do.
    pub local: LocalAbilities,
}

impl Abilities {
    pub(crate) fn of(backend: &Backend, local: LocalAbilities) -> Self {
        Self { capabilities: backend.transport.capabilities(), interest: backend.interest.is_some(), local }
    }
}

macro_rules! needs {
    ($($(#[$doc:meta])* $name:ident: |$abilities:ident| $met:expr, $reason:literal;)*) => {
        /// What a case needs in order to apply.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Need {
            $($(#[$doc])* $name,)*
        }

        impl Need {
            /// Why a case with this need does not apply; `None` if it does.
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
    /// Messages of one sender keep their order whatever their rooms and kinds.
    TotalOrder: |it| it.capabilities.total_order, "no order across rooms is promised";
    /// Acknowledged broadcasts keep their order among plain ones.
    AcknowledgedInOrder: |it| it.capabilities.acknowledged_in_order, "acknowledged broadcasts may overtake plain ones";
    /// Repeats are dropped and holes are noticed.
    Numbered: |it| it.capabilities.numbered, "messages are not numbered";
    /// Who leaves says so.
    AnnouncedLeave: |it| it.capabilities.announced_leave, "leaving is not announced";
    /// Answers name their node.
    NamedAnswers: |it| it.capabilities.named_answers, "answers do not name their node";
    /// Messages are kept and sessions can be restored.
    History: |it| it.capabilities.history, "no history is kept";
    /// Nothing is kept.
    NoHistory: |it| !it.capabilities.history, "a history is kept";
    /// There is a largest message, small enough to be tried.
    Limit: |it| it.capabilities.max_message_bytes.is_some_and(|most| most <= MOST_BYTES), "there is no limit, or too big a one";
    /// What is sent to a room arrives without the room being made known first.
    NoInterest: |it| !it.interest, "rooms are made known to the broker, which takes a moment";
    /// The server tells number rooms from text rooms.
    NumberRooms: |it| it.local.number_rooms, "the server has no number rooms";
    /// The server can close connections.
    CloseConnections: |it| it.local.close_connections, "the server cannot close connections";
}

/// Messages that are tried at most.
const MOST_BYTES: usize = 32 << 20;
