// A Socket.IO server with one of the official adapters, as the benchmark measures it: `node server.js ADAPTER URL`.
// Its events are those of the Rust servers, see bench/src/worker.rs.

import { createServer } from "node:http";
import { setImmediate as yielded, setTimeout as after } from "node:timers/promises";

import { Server } from "socket.io";

const ROOM = "bench";

const adapters = {
  "redis-classic": async (url) => {
    const { createAdapter } = await import("@socket.io/redis-adapter");
    return createAdapter(await redis(url), await redis(url));
  },
  "redis-sharded": async (url) => {
    const { createShardedAdapter } = await import("@socket.io/redis-adapter");
    return createShardedAdapter(await redis(url), await redis(url));
  },
  "redis-streams": async (url) => {
    const { createAdapter } = await import("@socket.io/redis-streams-adapter");
    return createAdapter(await redis(url));
  },
  postgres: async (url) => {
    const { createAdapter } = await import("@socket.io/postgres-adapter");
    const pg = await import("pg");
    const pool = new pg.default.Pool({ connectionString: url });
    await pool.query(
      `CREATE TABLE IF NOT EXISTS socket_io_attachments
       (id bigserial UNIQUE, created_at timestamptz DEFAULT NOW(), payload bytea)`,
    );
    return createAdapter(pool);
  },
  mongodb: async (url) => {
    const { createAdapter } = await import("@socket.io/mongo-adapter");
    const { MongoClient } = await import("mongodb");
    const client = await new MongoClient(url).connect();
    const database = client.db("trunkline_bench");
    const name = "node_events";
    await database.createCollection(name, { capped: true, size: 64 * 1024 * 1024 }).catch((error) => {
      if (error.codeName !== "NamespaceExists") throw error;
    });
    return createAdapter(database.collection(name));
  },
};

async function redis(url) {
  const { createClient } = await import("redis");
  const client = createClient({ url });
  // It reconnects by itself; what is lost meanwhile is counted by the receiver.
  client.on("error", () => {});
  return client.connect();
}

const [adapter, url] = process.argv.slice(2);
if (!(adapter in adapters)) {
  console.error(`server.js ${Object.keys(adapters).join("|")} URL`);
  process.exit(2);
}

const http = createServer();
const io = new Server(http, { adapter: await adapters[adapter](url) });
io.on("connection", (socket) => {
  socket.on("join", async () => {
    await socket.join(ROOM);
    socket.emit("ready");
  });
  socket.on("go", async (count, bytes, rate) => {
    const began = process.hrtime.bigint();
    await emit(count, bytes, rate, began);
    io.to(ROOM).emit("end", count);
    done(socket, began, 0, 0);
  });
  socket.on("fetch", async (count) => {
    const began = process.hrtime.bigint();
    let [sockets, refused] = [0, 0];
    for (let call = 0; call < count; call++) {
      await io.in(ROOM).fetchSockets().then((fetched) => (sockets += fetched.length), () => refused++);
    }
    done(socket, began, sockets, refused);
  });
  socket.on("ask", async (count, bytes) => {
    const began = process.hrtime.bigint();
    const padding = "x".repeat(bytes);
    let acks = 0;
    for (let number = 0; number < count; number++) {
      const room = Math.max(0, bytes - 9 - String(number).length);
      const asked = io.to(ROOM).timeout(5000).emitWithAck("a", number, padding.slice(0, room));
      // Clients that have not acknowledged in time make it fail; the others are in the error.
      await asked.then((answers) => (acks += answers.length), (error) => (acks += error.responses?.length ?? 0));
    }
    done(socket, began, acks, 0);
  });
  socket.emit("connected");
});
http.listen(0, "127.0.0.1", () => console.log(`ready ${http.address().port}`));

process.stdin.resume().on("end", () => process.exit());

function done(socket, began, answers, refused) {
  socket.emit("done", Number(began), Number(process.hrtime.bigint()), answers, refused);
}

async function emit(count, bytes, rate, began) {
  const padding = "x".repeat(bytes);
  for (let number = 0; number < count; number++) {
    while (rate > 0 && number * 1e9 > Number(process.hrtime.bigint() - began) * rate) {
      await after(1);
    }
    const time = Number(process.hrtime.bigint());
    const room = Math.max(0, bytes - 10 - String(number).length - String(time).length);
    io.to(ROOM).emit("m", number, time, padding.slice(0, room));
    // A server that never returns to its event loop sends nothing at all.
    if (number % 100 === 99) await yielded();
  }
}
