// A node of Node.js: a Socket.IO server with the official adapter of a transport, which does what its clients ask for with the event `op`,
// as the Rust test nodes do (../../nodes). Prints {"nodes":["http://127.0.0.1:…"]} and runs until standard input is closed.
//
//   node peers/peer.js --transport redis-pubsub --url redis://… --index 1 [--options JSON]
//     [--heartbeat-interval MILLISECONDS] [--recovery] [--emitter] [--instrument JSON]

import { hush } from "./whispers.js";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { instrument, RedisStore } from "@socket.io/admin-ui";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import { connect } from "./connections.js";
import { perform } from "./operations.js";
import { listenToServers } from "./servers.js";

const { values: options } = parseArgs({
  options: {
    transport: { type: "string" },
    url: { type: "string" },
    /** More options of its adapter, as JSON. */
    options: { type: "string", default: "{}" },
    /** The number by which it greets its clients. */
    index: { type: "string" },
    /** Of the adapters that have heartbeats. */
    "heartbeat-interval": { type: "string", default: "5000" },
    /** Connection state recovery. */
    recovery: { type: "boolean", default: false },
    /** Serve clients alone, and emit what they ask for into the cluster with the official emitter, which is none of its nodes. */
    emitter: { type: "boolean", default: false },
    /** Options of the admin UI's `instrument()`, as JSON; by default its development mode without a password. `store` is the URL of a Redis. */
    instrument: { type: "string" },
  },
});
const index = Number(options.index);
const heartbeats = { heartbeatInterval: Number(options["heartbeat-interval"]) };
const connection = await connect(options.transport, options.url, index, JSON.parse(options.options), heartbeats);

const web = createServer();
const io = new Server(web, {
  maxHttpBufferSize: 8 << 20,
  ...(options.emitter ? {} : { adapter: connection.adapter }),
  ...(options.recovery ? { connectionStateRecovery: {} } : {}),
});
const namespaces = [io.of("/"), io.of("/other"), io.of(/^\/dynamic\/[^/]+$/)];
if (options.instrument) {
  const { store, ...chosen } = JSON.parse(options.instrument);
  const sessions = store ? { store: new RedisStore(new Redis(store)) } : {};
  instrument(io, { auth: false, mode: "development", serverId: `node-${index}`, ...chosen, ...sessions });
}
namespaces.forEach((namespace) => namespace.on("connection", welcome));
const counts = namespaces.slice(0, 2).map((namespace) => listenToServers(namespace, index));

/** Registers the handlers first and greets last: a client that has been greeted is heard. */
function welcome(socket) {
  const emitter = options.emitter ? connection.emitter(socket.nsp.name) : undefined;
  const node = { socket, namespace: socket.nsp, emitter, counts, sent: connection.sent };
  socket.on("op", async (operation, answer) => answer(await perform(node, operation)));
  socket.on("echo", (...args) => args.pop()(...args));
  // The client may be gone before all others know.
  socket.on("disconnect", () => socket.nsp.emit("left", socket.id));
  socket.emit("ready", index, socket.id, socket.conn.transport.name);
}

await new Promise((resolve) => web.listen(0, "127.0.0.1", resolve));
console.log(JSON.stringify({ nodes: [`http://127.0.0.1:${web.address().port}`] }));

await new Promise((resolve) => {
  process.once("SIGTERM", resolve);
  process.stdin.once("end", resolve).resume();
});
hush();
await io.close();
await connection.sent();
process.exit(0);
