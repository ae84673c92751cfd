//! A Socket.IO client over WebSocket, for both parsers, that reads when it is asked to.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use trunkline_core::Payload;

use super::{
    Server,
    packet::{Head, Kind, Packet},
    within,
};

/// A connected client. Dropped, it hangs up.
pub(crate) struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    namespace: String,
    msgpack: bool,
    /// Its id at the server.
    pub(crate) id: String,
    /// What was read while something else was waited for.
    unread: VecDeque<Packet>,
    /// Acknowledgements asked for so far.
    requests: u64,
}

impl Client {
    /// A client in the rooms, greeted by the server's connect handler: its events are heard, and it is reached.
    pub(crate) async fn of(server: &Server, rooms: &[&str]) -> Self {
        Self::with(server, "/", &serde_json::json!({ "rooms": rooms })).await
    }

    pub(crate) async fn with<T: Serialize>(server: &Server, namespace: &str, auth: &T) -> Self {
        let mut client = Self::open(server, namespace, auth).await;
        client.event("ready").await;
        client
    }

    /// As [`Client::with`], before the greeting.
    pub(crate) async fn open<T: Serialize>(server: &Server, namespace: &str, auth: &T) -> Self {
        let (mut client, welcome) = Self::ask_to_connect(server, namespace, auth).await;
        assert_eq!(welcome.kind, Kind::Connect, "{welcome:?}");
        let welcome: serde_json::Value = welcome.data.unwrap().deserialize().unwrap();
        client.id = welcome["sid"].as_str().unwrap().to_owned();
        client
    }

    /// What the server says to a client that it refuses.
    pub(crate) async fn refused(server: &Server, namespace: &str) -> String {
        let (_, refusal) = Self::ask_to_connect(server, namespace, &()).await;
        assert_eq!(refusal.kind, Kind::ConnectError, "{refusal:?}");
        let refusal: serde_json::Value = refusal.data.unwrap().deserialize().unwrap();
        refusal["message"].as_str().unwrap().to_owned()
    }

    async fn ask_to_connect<T: Serialize>(server: &Server, namespace: &str, auth: &T) -> (Self, Packet) {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.address);
        let (stream, _) = within(tokio_tungstenite::connect_async(url)).await.unwrap();
        let msgpack = server.msgpack;
        let mut client = Self {
            stream,
            namespace: namespace.to_owned(),
            msgpack,
            id: String::new(),
            unread: VecDeque::new(),
            requests: 0,
        };
        let hello = Packet {
            kind: Kind::Connect,
            namespace: namespace.to_owned(),
            data: Some(Payload::value(auth).unwrap()),
            id: None,
        };
        client.send(&hello).await;
        let answer = client.packet().await.expect("an answer");
        (client, answer)
    }

    pub(crate) async fn emit<T: Serialize>(&mut self, name: &str, arguments: &T) {
        self.send_event(Payload::event(name, arguments).unwrap(), None).await;
    }

    /// Emits an event and waits for the arguments of its acknowledgement.
    pub(crate) async fn request<T: Serialize, R: DeserializeOwned>(&mut self, name: &str, arguments: &T) -> R {
        let request = self.ask(name, arguments).await;
        self.answer(request).await
    }

    /// Emits an event that wants an acknowledgement.
    pub(crate) async fn ask<T: Serialize>(&mut self, name: &str, arguments: &T) -> u64 {
        let request = self.requests;
        self.requests += 1;
        self.send_event(Payload::event(name, arguments).unwrap(), Some(request)).await;
        request
    }

    /// Waits for an acknowledgement; returns its arguments.
    pub(crate) async fn answer<R: DeserializeOwned>(&mut self, request: u64) -> R {
        let answer = self.packet_that(|packet| packet.kind == Kind::Ack && packet.id == Some(request)).await;
        answer.data.unwrap().deserialize().unwrap()
    }

    async fn send_event(&mut self, data: Payload, id: Option<u64>) {
        let packet = Packet { kind: Kind::Event, namespace: self.namespace.clone(), data: Some(data), id };
        self.send(&packet).await;
    }

    /// Acknowledges an event.
    pub(crate) async fn acknowledge(&mut self, event: &Packet, answer: Payload) {
        let packet = Packet { kind: Kind::Ack, namespace: self.namespace.clone(), data: Some(answer), id: event.id };
        self.send(&packet).await;
    }

    /// Sends any text.
    pub(crate) async fn raw(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn disconnect(&mut self) {
        let packet = Packet { kind: Kind::Disconnect, namespace: self.namespace.clone(), data: None, id: None };
        self.send(&packet).await;
    }

    /// The next event of this name; others stay unread.
    pub(crate) async fn event(&mut self, name: &str) -> Payload {
        self.event_packet(name).await.data.unwrap()
    }

    /// As [`Client::event`], with the id under which to acknowledge it.
    pub(crate) async fn event_packet(&mut self, name: &str) -> Packet {
        let named = |packet: &Packet| packet.data.as_ref().and_then(Payload::event_name).as_deref() == Some(name);
        self.packet_that(|packet| packet.kind == Kind::Event && named(packet)).await
    }

    /// The names and arguments of all events before the one of this name, which is consumed too.
    pub(crate) async fn until(&mut self, marker: &str) -> Vec<Payload> {
        let mut events = Vec::new();
        loop {
            let packet = self.packet_that(|packet| packet.kind == Kind::Event).await;
            let event = packet.data.unwrap();
            if event.event_name().as_deref() == Some(marker) {
                return events;
            }
            events.push(event);
        }
    }

    /// Waits until the server disconnects it from the namespace or hangs up.
    pub(crate) async fn disconnected(&mut self) {
        while let Some(packet) = within(self.packet()).await {
            if packet.kind == Kind::Disconnect {
                return;
            }
        }
    }

    /// The next packet that `is_it`; others stay unread.
    async fn packet_that(&mut self, is_it: impl Fn(&Packet) -> bool) -> Packet {
        if let Some(index) = self.unread.iter().position(&is_it) {
            return self.unread.remove(index).unwrap();
        }
        loop {
            let packet = within(self.packet()).await.expect("the server hung up");
            if is_it(&packet) {
                return packet;
            }
            self.unread.push_back(packet);
        }
    }

    async fn packet(&mut self) -> Option<Packet> {
        let mut head = None::<(Head, Vec<_>)>;
        loop {
            match self.stream.next().await? {
                Ok(Message::Text(text)) => match text.as_bytes()[0] {
                    b'2' => self.stream.send(Message::text("3")).await.ok()?,
                    b'4' => head = Some((Head::parse(&text[1..]), Vec::new())),
                    b'0' => {}
                    _ => return None,
                },
                Ok(Message::Binary(bytes)) if self.msgpack => return Some(Packet::from_msgpack(&bytes)),
                Ok(Message::Binary(bytes)) => head.as_mut().expect("a packet before its attachments").1.push(bytes),
                Ok(_) => {}
                Err(_) => return None,
            }
            if let Some((complete, attachments)) = head.take_if(|(head, parts)| head.attachments == parts.len()) {
                return Some(complete.complete(attachments));
            }
        }
    }

    async fn send(&mut self, packet: &Packet) {
        if self.msgpack {
            self.stream.send(Message::binary(packet.to_msgpack())).await.unwrap();
            return;
        }
        let (text, attachments) = packet.to_text();
        self.stream.send(Message::text(format!("4{text}"))).await.unwrap();
        for attachment in attachments {
            self.stream.send(Message::Binary(attachment)).await.unwrap();
        }
    }
}
