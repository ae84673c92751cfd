//! What every measured Socket.IO server in Rust does, whatever its adapter. It prints `ready PORT`, serves the default namespace, and ends
//! when its standard input is closed.
//!
//! A client is told `connected` when it may send events. One that sends `join` is put into the room `bench` and told `ready`. One that sends
//! one of these events has its handler work, and is told `done BEGAN ENDED ANSWERS REFUSED` then:
//!
//! * `go COUNT BYTES RATE`: so many events `m`, and then one event `end COUNT`, are emitted to the room.
//! * `fetch COUNT BYTES RATE`: the sockets of the room are fetched so many times, one call after the other. `ANSWERS` are sockets.
//! * `ask COUNT BYTES RATE`: so many events `a` are emitted to the room, each after all clients have acknowledged the one before.
//!   `ANSWERS` are acknowledgements.
//!
//! `BYTES` is the length of the event's argument list as JSON, `["m",NUMBER,TIME,"xxx…"]`. `RATE` is in events per second; 0 is as fast as
//! the server's own call lets one caller. Times are nanoseconds of the monotonic clock, which all processes of a machine share.

use std::{error::Error, fmt::Display, time::Duration};

use futures_util::StreamExt;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use socketioxide::{
    SocketIo,
    adapter::Adapter,
    extract::{Data, SocketRef},
};
use tokio::{
    io::{AsyncReadExt, stdin},
    net::TcpListener,
    time::{MissedTickBehavior, interval},
};

/// The room to which is emitted.
pub const ROOM: &str = "bench";

/// Why a server or a measurement cannot go on.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Now, in nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Serves `app` on a free port until standard input is closed.
///
/// # Errors
/// When the port cannot be opened.
pub async fn serve(app: axum::Router) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let serving = tokio::spawn(async move {
        use axum::serve::ListenerExt;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, app).await
    });
    println!("ready {port}");
    stdin().read_to_end(&mut Vec::new()).await?;
    serving.abort();
    Ok(())
}

/// Registers the handlers of `go`, `fetch` and `ask`.
pub fn handle_calls<A: Adapter>(socket: &SocketRef<A>) {
    socket.on("go", go::<A>);
    socket.on("fetch", fetch::<A>);
    socket.on("ask", ask::<A>);
}

/// `COUNT`, `BYTES`, `RATE`.
type Load = (u64, usize, u64);

async fn go<A: Adapter>(io: SocketIo<A>, caller: SocketRef<A>, Data((count, bytes, rate)): Data<Load>) {
    let began = now();
    let padding = "x".repeat(bytes);
    let mut refused = 0;
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..count {
        while rate > 0 && number * 1_000_000_000 > (now() - began) * rate {
            tick.tick().await;
        }
        let time = now();
        let length = bytes.saturating_sub(10 + digits(number) + digits(time));
        refused += emit(&io, "m", &(number, time, &padding[..length])).await;
    }
    refused += emit(&io, "end", &count).await;
    done(&caller, began, 0, refused);
}

async fn fetch<A: Adapter>(io: SocketIo<A>, caller: SocketRef<A>, Data((count, _, _)): Data<Load>) {
    let began = now();
    let (mut sockets, mut refused) = (0, 0);
    for _ in 0..count {
        match io.to(ROOM).fetch_sockets().await {
            Ok(fetched) => sockets += fetched.len(),
            Err(error) => refused += refusal(&error),
        }
    }
    done(&caller, began, sockets, refused);
}

async fn ask<A: Adapter>(io: SocketIo<A>, caller: SocketRef<A>, Data((count, bytes, _)): Data<Load>) {
    let began = now();
    let padding = "x".repeat(bytes);
    let (mut acks, mut refused) = (0, 0);
    for number in 0..count {
        let length = bytes.saturating_sub(9 + digits(number));
        match io.to(ROOM).emit_with_ack::<_, u64>("a", &(number, &padding[..length])).await {
            Ok(answers) => acks += answers.filter(|(_, ack)| std::future::ready(ack.is_ok())).count().await,
            Err(error) => refused += refusal(&error),
        }
    }
    done(&caller, began, acks, refused);
}

fn done<A: Adapter>(caller: &SocketRef<A>, began: u64, answers: usize, refused: u64) {
    if let Err(error) = caller.emit("done", &(began, now(), answers, refused)) {
        eprintln!("the caller is gone: {error}");
    }
}

/// 1 if the server has refused to emit.
async fn emit<A: Adapter>(io: &SocketIo<A>, event: &str, arguments: &(impl Serialize + Sync)) -> u64 {
    match io.to(ROOM).emit(event, arguments).await {
        Ok(()) => 0,
        Err(error) => refusal(&error),
    }
}

/// One call that the server has refused.
fn refusal(error: &impl Display) -> u64 {
    eprintln!("refused: {error}");
    1
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
