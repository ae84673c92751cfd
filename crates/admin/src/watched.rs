//! Sockets whose events and reasons the page shows.

use std::{borrow::Cow, fmt, ops::Deref, sync::Arc};

use serde::Serialize;
use socketioxide::{
    SendError,
    handler::{DisconnectHandler, MessageHandler},
    socket::{DisconnectReason, Socket},
};
use socketioxide_core::Value;
use trunkline_socketioxide::{ClusterSocket, Payload, Trunkline};

use crate::admin::Admin;

/// A socket of which the page shows, in development mode, when and why it has disconnected and which events it has received
/// and sent. What a handler registers and emits through it is shown; otherwise it is the socket.
///
/// What reaches the client by way of rooms and other operators is not shown.
pub struct WatchedSocket {
    socket: ClusterSocket,
    admin: Admin,
}

impl WatchedSocket {
    pub(crate) fn new(socket: ClusterSocket, admin: Admin) -> Self {
        admin.socket_connected(&socket);
        let watched = Self { socket, admin };
        watched.on_fallback(async || {});
        watched.on_disconnect(async || {});
        watched
    }

    /// As [`Socket::on`].
    pub fn on<H, T>(&self, event: impl Into<Cow<'static, str>>, handler: H)
    where
        H: MessageHandler<Trunkline, T>,
        T: Send + Sync + 'static,
    {
        self.socket.on(event, self.reported(handler));
    }

    /// As [`Socket::on_fallback`].
    pub fn on_fallback<H, T>(&self, handler: H)
    where
        H: MessageHandler<Trunkline, T>,
        T: Send + Sync + 'static,
    {
        self.socket.on_fallback(self.reported(handler));
    }

    /// As [`Socket::on_disconnect`].
    pub fn on_disconnect<H, T>(&self, handler: H)
    where
        H: DisconnectHandler<Trunkline, T>,
        T: Send + Sync + 'static,
    {
        self.socket.on_disconnect(self.reported(handler));
    }

    /// As [`Socket::emit`].
    ///
    /// # Errors
    /// As of [`Socket::emit`].
    pub fn emit<T: ?Sized + Serialize>(&self, event: impl AsRef<str>, data: &T) -> Result<(), SendError> {
        let event = event.as_ref();
        self.socket.emit(event, data)?;
        self.admin.event("event_sent", &self.socket, || Payload::event(event, data).ok());
        Ok(())
    }

    fn reported<H>(&self, handler: H) -> Reported<H> {
        Reported { handler, admin: self.admin.clone() }
    }
}

impl Deref for WatchedSocket {
    type Target = ClusterSocket;

    fn deref(&self) -> &Self::Target {
        &self.socket
    }
}

impl fmt::Debug for WatchedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedSocket").field("id", &self.socket.id).finish_non_exhaustive()
    }
}

/// A handler of the application, whose calls the page shows.
struct Reported<H> {
    handler: H,
    admin: Admin,
}

impl<H: MessageHandler<Trunkline, T>, T> MessageHandler<Trunkline, T> for Reported<H> {
    fn call(&self, socket: Arc<Socket<Trunkline>>, value: Value, ack: Option<i64>) {
        self.admin.event("event_received", &socket, || payload(&value));
        self.handler.call(socket, value, ack);
    }
}

impl<H: DisconnectHandler<Trunkline, T>, T> DisconnectHandler<Trunkline, T> for Reported<H> {
    fn call_with_defer(
        &self,
        socket: Arc<Socket<Trunkline>>,
        reason: DisconnectReason,
        defer: fn(Arc<Socket<Trunkline>>),
    ) {
        self.admin.socket_disconnected(&socket, text_of(reason));
        self.handler.call_with_defer(socket, reason, defer);
    }
}

/// Name and arguments of an event as it came.
fn payload(value: &Value) -> Option<Payload> {
    match value {
        Value::Str(text, binary) => {
            let attachments: Vec<_> = binary.iter().flatten().cloned().collect();
            Payload::from_json_with(text.as_str().to_owned(), attachments).ok()
        }
        Value::Bytes(bytes) => Payload::from_msgpack(bytes.clone()).ok(),
    }
}

/// The reason in the words of Node.js servers.
fn text_of(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::TransportClose => "transport close",
        DisconnectReason::TransportError | DisconnectReason::MultipleHttpPollingError => "transport error",
        DisconnectReason::PacketParsingError => "parse error",
        DisconnectReason::HeartbeatTimeout => "ping timeout",
        DisconnectReason::ClientNSDisconnect => "client namespace disconnect",
        DisconnectReason::ServerNSDisconnect => "server namespace disconnect",
        DisconnectReason::ClosingServer => "server shutting down",
    }
}
