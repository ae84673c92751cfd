//! The handlers of the servers, as in socketioxide's suite.

use futures_util::StreamExt as _;
use socketioxide::{
    SocketIo,
    extract::{AckSender, Data, SocketRef},
    socket::{RemoteSocket, Sid},
};

use crate::kit::A;

type Io = SocketIo<A>;
type Socket = SocketRef<A>;
type Ack = AckSender<A>;

pub(crate) async fn connected(s: Socket) {
    s.join(["room1", "room2", "room4", "room5"]);
    s.join(s.id);
    s.on("broadcast", async |io: Io, s: Socket| io.emit("broadcast", &hello(&s)).await.unwrap());
    s.on("volatile_broadcast", async |io: Io, s: Socket| {
        io.volatile().emit("volatile_broadcast", &hello(&s)).await.unwrap();
    });
    s.on("broadcast_with_ack", async |io: Io, ack: Ack| {
        let answers = io.emit_with_ack::<_, String>("broadcast_with_ack", &()).await.unwrap();
        ack.send(&answers.map(|(_, answer)| answer.unwrap()).collect::<Vec<_>>().await).unwrap();
    });
    s.on("disconnect_socket", async |io: Io| io.disconnect().await.unwrap());
    s.on("rooms", async |io: Io, ack: Ack| ack.send(&io.rooms().await.unwrap()).unwrap());
    s.on("fetch_sockets", async |io: Io, ack: Ack| {
        let sockets = io.fetch_sockets().await.unwrap();
        ack.send(&sockets.into_iter().map(RemoteSocket::into_data).collect::<Vec<_>>()).unwrap();
    });
    s.on("join_room", async |io: Io, ack: Ack| {
        io.join("room7").await.unwrap();
        ack.send(&()).unwrap();
    });
    s.on("leave_room", async |io: Io, ack: Ack| {
        io.leave("room4").await.unwrap();
        ack.send(&()).unwrap();
    });
    remote(&s);
    s.emit("ready", &()).unwrap();
}

/// What is done to a fetched socket.
fn remote(s: &Socket) {
    s.on("emit_from_remote_sock", async |io: Io, s: Socket, Data(id): Data<Sid>, ack: Ack| {
        only(&io, id).await.emit("emit", &hello(&s)).await.unwrap();
        ack.send(&()).unwrap();
    });
    s.on("emit_with_ack_from_remote_sock", async |io: Io, s: Socket, Data(id): Data<Sid>, ack: Ack| {
        let asked = only(&io, id).await.emit_with_ack::<_, String>("emit", &hello(&s)).await;
        ack.send(&asked.unwrap().await.unwrap()).unwrap();
    });
    s.on("join_room_from_remote_sock", async |io: Io, s: Socket, Data(id): Data<Sid>, ack: Ack| {
        only(&io, id).await.join(hello(&s)).await.unwrap();
        ack.send(&()).unwrap();
    });
    s.on("leave_room_from_remote_sock", async |io: Io, Data(id): Data<Sid>, ack: Ack| {
        only(&io, id).await.leave("room4").await.unwrap();
        ack.send(&()).unwrap();
    });
    s.on("disconnect_remote_sock", async |io: Io, Data(id): Data<Sid>, ack: Ack| {
        only(&io, id).await.disconnect().await.unwrap();
        ack.send(&()).unwrap();
    });
    s.on("get_rooms_remote_sock", async |io: Io, Data(id): Data<Sid>, ack: Ack| {
        ack.send(&only(&io, id).await.rooms().await.unwrap()).unwrap();
    });
}

fn hello(s: &Socket) -> String {
    format!("hello from {}", s.id)
}

/// The socket with this id, fetched.
async fn only(io: &Io, id: Sid) -> RemoteSocket<A> {
    let mut sockets = io.to(id).fetch_sockets().await.unwrap();
    assert_eq!(sockets.len(), 1);
    sockets.pop().unwrap()
}
