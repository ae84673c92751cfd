//! Handlers of server-side events.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
};

use serde::de::DeserializeOwned;
use trunkline_core::{NodeId, Payload, Result};

/// A server-side event that another node or an emitter has sent to this server.
#[derive(Clone, Debug)]
pub struct ServerSideEvent {
    /// Id of the node that sent it; [`NodeId::EMITTER`] for an emitter.
    pub from: NodeId,
    /// The event's name and arguments.
    pub payload: Payload,
}

impl ServerSideEvent {
    /// Deserializes the arguments into a tuple, an array or a list.
    ///
    /// # Errors
    /// `Malformed` if they are of other types.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        self.payload.arguments()
    }
}

/// The answer of a server-side event's handler. A handler returns anything that converts into it: `()`, a payload, or
/// the result of encoding one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerSideAnswer(pub(crate) Option<Payload>);

impl From<()> for ServerSideAnswer {
    fn from((): ()) -> Self {
        Self(None)
    }
}

impl From<Payload> for ServerSideAnswer {
    fn from(value: Payload) -> Self {
        Self(Some(value))
    }
}

impl From<Option<Payload>> for ServerSideAnswer {
    fn from(value: Option<Payload>) -> Self {
        Self(value)
    }
}

/// An error is logged and answered with `undefined`.
impl From<Result<Payload>> for ServerSideAnswer {
    fn from(value: Result<Payload>) -> Self {
        Self(value.inspect_err(|error| tracing::warn!(%error, "answering undefined")).ok())
    }
}

type Answering = Pin<Box<dyn Future<Output = ServerSideAnswer> + Send>>;
type Handler = Arc<dyn Fn(ServerSideEvent) -> Answering + Send + Sync>;

/// The handlers of one namespace by event. They stay when it is closed and opened again.
#[derive(Default)]
pub(crate) struct Handlers(RwLock<HashMap<String, Handler>>);

impl Handlers {
    /// Registers the handler of an event and drops an earlier one.
    pub(crate) fn set<F, Fut>(&self, event: &str, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<ServerSideAnswer>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |event| {
            let answering = handler(event);
            Box::pin(async { answering.await.into() })
        });
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(event.to_owned(), handler);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The handler of an event.
    pub(crate) fn find(&self, event: &str) -> Option<Handler> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(event).cloned()
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.read().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}
