//! Requests that return what has arrived when their time is up.

use socketioxide::{
    SocketIo,
    adapter::Adapter,
    operators::{BroadcastOperators, ConfOperators},
};

/// `partial()` on the operators of socketioxide: `io.to("room").partial().fetch_sockets()`.
pub trait PartialAnswers<A: Adapter> {
    /// The same operators, whose `fetch_sockets` and `rooms` return what has arrived when the time is up, as on Node.js
    /// servers. Without it, nodes that have not answered in time are an error, which has that as well
    /// ([`SocketIoError::incomplete`](crate::SocketIoError::incomplete)). Other operations stay as they are.
    #[must_use]
    fn partial(self) -> BroadcastOperators<A>;
}

impl<A: Adapter> PartialAnswers<A> for BroadcastOperators<A> {
    fn partial(self) -> Self {
        self.except(MARK)
    }
}

impl<A: Adapter> PartialAnswers<A> for ConfOperators<'_, A> {
    fn partial(self) -> BroadcastOperators<A> {
        self.except(MARK)
    }
}

impl<A: Adapter> PartialAnswers<A> for &SocketIo<A> {
    fn partial(self) -> BroadcastOperators<A> {
        self.except(MARK)
    }
}

/// A room of this name is not excepted, but stands for `partial()`: operators have no room for flags of an adapter.
pub(crate) const MARK: &str = "\0trunkline:partial";
