//! What every measured Socket.IO server in Rust does, whatever its adapter: it prints `ready PORT`, and for each line
//! `emit COUNT BYTES RATE` on standard input it emits that many events to the room `bench`, then one event `end`, and prints
//! `emitted BEGAN ENDED REFUSED`. It ends with its standard input.
//!
//! `BYTES` is the length of the event's argument list as JSON, `["m",NUMBER,TIME,"xxx…"]`. `RATE` is in events per second; 0 is as fast as
//! the server's own call lets one caller. Times are nanoseconds of the monotonic clock, which all processes of a machine share.

use std::{error::Error, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use socketioxide::{SocketIo, adapter::Adapter};
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    net::TcpListener,
    time::{MissedTickBehavior, interval},
};

/// The room of all clients.
pub const ROOM: &str = "bench";

/// Why a worker or a measurement cannot go on.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Now, in nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Serves `app` on a free port and does what standard input says, until it is closed.
///
/// # Errors
/// When the port cannot be opened or a line makes no sense.
pub async fn work<A: Adapter>(io: SocketIo<A>, app: axum::Router) -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let serving = tokio::spawn(async move {
        use axum::serve::ListenerExt;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, app).await
    });
    println!("ready {port}");
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let order = Order::parse(&line).ok_or_else(|| format!("'{line}' is not 'emit COUNT BYTES RATE'"))?;
        // In a task, where handlers emit.
        let emitting = tokio::spawn(order.carry_out(io.clone()));
        let (began, refused) = (now(), emitting.await?);
        println!("emitted {began} {} {refused}", now());
    }
    serving.abort();
    Ok(())
}

/// A line of standard input.
struct Order {
    count: u64,
    bytes: usize,
    rate: u64,
}

impl Order {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        (words.next()? == "emit").then_some(())?;
        let mut number = || words.next()?.parse::<u64>().ok();
        Some(Self { count: number()?, bytes: usize::try_from(number()?).ok()?, rate: number()? })
    }

    /// Returns how many events the server refused to emit.
    async fn carry_out<A: Adapter>(self, io: SocketIo<A>) -> u64 {
        let padding = "x".repeat(self.bytes);
        let mut tick = interval(Duration::from_millis(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (began, mut refused) = (now(), 0);
        for number in 0..self.count {
            while self.rate > 0 && number * 1_000_000_000 > (now() - began) * self.rate {
                tick.tick().await;
            }
            let time = now();
            let room = self.bytes.saturating_sub(10 + digits(number) + digits(time));
            refused += emit(&io, "m", &(number, time, &padding[..room])).await;
        }
        refused + emit(&io, "end", &()).await
    }
}

async fn emit<A: Adapter>(io: &SocketIo<A>, event: &str, arguments: &(impl Serialize + Sync)) -> u64 {
    match io.to(ROOM).emit(event, arguments).await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("refused: {error}");
            1
        }
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
