//! What a node does for its pages: rooms, messages, private messages, typing.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use socketioxide::{
    SocketIoBuilder,
    adapter::LocalAdapter,
    extract::{AckSender, State, TryData},
    socket::DisconnectReason,
};
use tokio::sync::oneshot;
use trunkline_socketioxide::{AwaitedRooms, Cluster, Trunkline};

use crate::{
    adapter::{Io, Socket},
    fleet::Command,
    history::History,
    node::Chat,
    wire::{self, Answer, Author, Draft, Hello, MAX_PICTURE, MAX_ROOMS, Person, Ready, Switch, Typing, TypingNotice},
};

/// The settings that matter for a chat.
pub(crate) fn configured(
    builder: SocketIoBuilder<LocalAdapter>,
    chat: Arc<Chat>,
    history: History,
) -> SocketIoBuilder<LocalAdapter> {
    builder
        .with_state(chat)
        .with_state(history)
        // A picture with what stands around it.
        .max_payload(2 * MAX_PICTURE as u64)
        // Packets a slow page may lag behind before it loses some.
        .max_buffer_size(1024)
        .ping_interval(Duration::from_secs(10))
        .ping_timeout(Duration::from_secs(5))
}

/// Before the connection is confirmed; the error that it returns reaches the page as `connect_error`.
pub(crate) async fn admit(
    socket: Socket,
    TryData(hello): TryData<Hello>,
    State(history): State<History>,
) -> Result<(), String> {
    hello.map_err(|error| format!("this page sent an unusable greeting: {error}"))?.check()?;
    history.pause(&socket);
    Ok(())
}

/// Registers the handlers before it greets, because a page that has been greeted is heard, and joins the rooms before
/// it sends what was written in them meanwhile.
pub(crate) async fn connected(
    socket: Socket,
    io: Io,
    TryData(hello): TryData<Hello>,
    State(chat): State<Arc<Chat>>,
    State(history): State<History>,
    State(cluster): State<Cluster>,
) {
    let Ok(handle) = cluster.of(socket.ns()) else { return };
    handle.count_connect();
    let Ok(hello) = hello else { return };
    socket.on("join", join);
    socket.on("leave", leave);
    socket.on("rename", rename);
    socket.on("message", message);
    socket.on("private", private);
    socket.on("typing", typing);
    socket.on("switch", switch);
    socket.on_disconnect(async move |socket: Socket, reason: DisconnectReason, State(chat): State<Arc<Chat>>| {
        handle.count_disconnect(reason);
        chat.people.left(socket.id);
    });

    let mut rooms: Vec<_> = hello.rooms.iter().map(|name| room(name)).collect();
    let user = hello.user();
    rooms.push(inbox(&user));
    // Awaited, so that from the greeting on everything sent to these rooms arrives.
    if let Err(error) = socket.join_awaited(rooms).await {
        eprintln!("node {}: a page cannot be told about its rooms: {error}", chat.port);
    }
    let Hello { name, rooms, offset, .. } = hello;
    chat.people.came(socket.id, Person { name, user: user.clone(), rooms, since: wire::now() });
    let ready = Ready { node: chat.port, user, nodes: chat.nodes(), offsets: history.events() };
    // Both fail only when the page is gone already.
    socket.emit("ready", &ready).ok();
    if !history.catch_up(&socket, offset).await {
        socket.emit("missed", &()).ok();
    }
    history.mark(&io, socket.id).await;
}

async fn join(
    socket: Socket,
    io: Io,
    TryData(name): TryData<String>,
    ack: AckSender<Trunkline>,
    State(chat): State<Arc<Chat>>,
    State(history): State<History>,
) {
    let entered = async {
        let name = understood(name)?;
        wire::check_room(&name)?;
        let rooms = chat.person(&socket)?.rooms;
        if rooms.contains(&name) {
            return Ok(());
        }
        if rooms.len() >= MAX_ROOMS {
            return Err(format!("{MAX_ROOMS} rooms are the most: leave one first"));
        }
        socket.join_awaited(room(&name)).await.map_err(|error| error.to_string())?;
        chat.people.change(socket.id, |person| person.rooms.push(name));
        // What was written in the room before is not missed.
        history.mark(&io, socket.id).await;
        Ok(())
    };
    reply(ack, entered.await);
}

async fn leave(
    socket: Socket,
    TryData(name): TryData<String>,
    ack: AckSender<Trunkline>,
    State(chat): State<Arc<Chat>>,
) {
    let left = async {
        let name = understood(name)?;
        chat.people.change(socket.id, |person| person.rooms.retain(|room| *room != name));
        socket.leave_awaited(room(&name)).await.map_err(|error| error.to_string())
    };
    reply(ack, left.await);
}

async fn rename(
    socket: Socket,
    TryData(name): TryData<String>,
    ack: AckSender<Trunkline>,
    State(chat): State<Arc<Chat>>,
) {
    let checked = understood(name).and_then(|name| wire::check_name(&name).map(|()| name));
    reply(ack, checked.map(|name| chat.people.change(socket.id, |person| person.name = name)));
}

/// Emitted to the room on all nodes, the writer's own page included: that it comes back is how the page knows it was
/// sent.
async fn message(
    socket: Socket,
    io: Io,
    TryData(draft): TryData<Draft>,
    ack: AckSender<Trunkline>,
    State(chat): State<Arc<Chat>>,
) {
    let post = async {
        let draft = understood(draft)?;
        draft.check()?;
        let person = chat.person(&socket)?;
        if !person.rooms.contains(&draft.to) {
            return Err(format!("join the room '{}' first", draft.to));
        }
        let message = draft.signed(author(person), chat.port);
        io.to(room(&message.to)).emit("message", &message).await.map_err(|error| error.to_string())
    };
    reply(ack, post.await);
}

/// To one person, on whichever node: their page confirms, and the answer says on which node it did.
async fn private(
    socket: Socket,
    io: Io,
    TryData(draft): TryData<Draft>,
    ack: AckSender<Trunkline>,
    State(chat): State<Arc<Chat>>,
) {
    let post = async {
        let draft = understood(draft)?;
        draft.check()?;
        let message = draft.signed(author(chat.person(&socket)?), chat.port);
        let to = io.to(inbox(&message.to)).timeout(CONFIRMATION);
        let answers = to.emit_with_ack::<_, u16>("private", &message).await.map_err(|error| error.to_string())?;
        confirmation(answers).await
    };
    let answer = match post.await {
        Ok(node) => Answer { delivered: Some(node), error: None },
        Err(error) => Answer { delivered: None, error: Some(error) },
    };
    ack.send(&answer).ok();
}

/// The first page that confirms; a person who has just moved may have left a dead connection behind that never will.
async fn confirmation<E>(
    answers: impl StreamExt<Item = (socketioxide::socket::Sid, Result<u16, E>)>,
) -> Result<u16, String> {
    let mut answers = std::pin::pin!(answers);
    let mut asked = false;
    while let Some((_, answer)) = answers.next().await {
        asked = true;
        if let Ok(node) = answer {
            return Ok(node);
        }
    }
    Err(if asked { "their page has not confirmed it" } else { "they are not online" }.to_owned())
}

/// Volatile: worth nothing a moment later.
async fn typing(socket: Socket, TryData(typing): TryData<Typing>, State(chat): State<Arc<Chat>>) {
    let (Ok(typing), Ok(person)) = (typing, chat.person(&socket)) else {
        return;
    };
    let readers = if typing.private { inbox(&typing.to) } else { room(&typing.to) };
    let notice = TypingNotice { from: author(person), to: typing.to, private: typing.private };
    socket.volatile().to(readers).emit("typing", &notice).await.ok();
}

/// Stops or starts a node of this process, also the one that serves the page that asks.
async fn switch(TryData(wish): TryData<Switch>, ack: AckSender<Trunkline>, State(chat): State<Arc<Chat>>) {
    let done = async {
        let Switch { port, run } = understood(wish)?;
        let (reply, answer) = oneshot::channel();
        chat.commands.send(Command::Switch { port, run, reply }).await.map_err(|_| "the chat is ending")?;
        answer.await.map_err(|_| "the chat is ending")?
    };
    reply(ack, done.await);
}

/// An answer that cannot be sent belongs to a page that has gone.
fn reply(ack: AckSender<Trunkline>, result: Result<(), String>) {
    ack.send(&Answer::from(result)).ok();
}

fn understood<T, E: std::fmt::Display>(data: Result<T, E>) -> Result<T, String> {
    data.map_err(|error| format!("the node did not understand this page: {error}"))
}

fn author(person: Person) -> Author {
    Author { user: person.user, name: person.name }
}

/// Rooms and people have names of their own choosing: a prefix keeps them apart.
fn room(name: &str) -> String {
    format!("room:{name}")
}

fn inbox(user: &str) -> String {
    format!("user:{user}")
}

const CONFIRMATION: Duration = Duration::from_secs(5);
