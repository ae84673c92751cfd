import assert from "node:assert/strict";
import { comparable } from "../../cases/payloads.js";
import { NODE_1, NODE_2, RUST } from "../cluster.js";
import { RUST_TO_NODE } from "../directions.js";

const DATA = { name: "zoë", list: [1, 2.5] };

export const sessionCells = [
  {
    name: "a session that one side has persisted is restored by the other",
    // In a cluster of its own: servers append offsets to events with recovery on, which all other cells go without.
    run: async (t) => restored(await t.recovering(), t.direction, t.transport),
  },
];

async function restored(cluster, direction, transport) {
  const watcher = await cluster.connect(NODE_2);
  if (direction !== RUST_TO_NODE) return restoredByRust(cluster, watcher);
  // Official servers look in MongoDB for larger ids, which those of two processes within a second need not be, and replay bytes as text.
  const isMongo = transport.name === "mongodb";
  return restoredByNode(cluster, watcher, { otherSenders: isMongo ? [] : [watcher], keepsBytes: !isMongo });
}

/** A Rust server keeps a session, and its client comes to a Node.js server. */
async function restoredByNode(cluster, watcher, { otherSenders, keepsBytes }) {
  const rust = await cluster.connect(RUST);
  await rust.emit({}, "seen", 1);
  const offset = (await rust.next("seen")).at(-1);
  const session = { pid: "the-secret-of-client", sid: "the-socket-of-client", rooms: ["the-socket-of-client", "room"], data: DATA };
  await rust.op("persistSession", { session });
  const senders = [rust, ...otherSenders];
  for (const sender of senders) await emitMissed(sender, watcher);
  const returned = await cluster.connect(NODE_1, { auth: { pid: session.pid, offset } });
  assert.equal(returned.id, session.sid);
  assert.deepEqual((await returned.op("ownRooms")).rooms, [...session.rooms].sort());
  const { described } = await returned.op("describeSockets", { select: { to: ["room"], local: true } });
  assert.deepEqual(described.map(({ data }) => data), [DATA]);
  const missed = returned.received.filter(({ event }) => event.startsWith("missed"));
  assertMissed(missed.map(({ event, args }) => [event, ...args]), senders, keepsBytes);
}

/** A Node.js server keeps the session of a client whose connection was lost, and a Rust server takes it. */
async function restoredByRust(cluster, watcher) {
  const client = await cluster.connect(NODE_1);
  const { id, socket } = client;
  await client.op("join", { rooms: ["room"] });
  await client.op("setData", { data: DATA });
  await watcher.emit({}, "seen", 1);
  const offset = (await client.next("seen")).at(-1);
  const pid = socket._pid;
  socket.io.engine.close();
  await watcher.next("left");
  const rust = await cluster.connect(RUST);
  for (const sender of [watcher, rust]) await emitMissed(sender, watcher);
  const { session, missed } = await rust.op("restoreSession", { id: pid, since: offset });
  assert.deepEqual(session, { pid, sid: id, rooms: [id, "room"].sort(), data: DATA });
  assertMissed(missed.filter(([event]) => event.startsWith("missed")), [watcher, rust], true);
  const { session: again } = await rust.op("restoreSession", { id: pid, since: offset });
  assert.equal(again, null);
}

/** Emits what a client in `room` misses, and what it does not miss. On return it has arrived elsewhere. */
async function emitMissed(sender, watcher) {
  await sender.emit({}, "missed by all", sender.node);
  await sender.emit({ to: ["room", "another room"] }, "missed in the room", sender.node, { deep: ["é"], bytes: Buffer.from("xy") });
  await sender.emit({ to: ["another room"] }, "missed elsewhere");
  await sender.emit({ except: ["room"] }, "missed by others");
  await sender.emit({}, "missed last", sender.node);
  await watcher.until("ownRooms", {}, () => watcher.all("missed last").some(([node]) => node === sender.node));
}

/** The messages of all senders, those of each in order, whatever is appended to them. */
function assertMissed(missed, senders, keepsBytes) {
  assert.equal(missed.length, 3 * senders.length, JSON.stringify(missed));
  for (const { node } of senders) {
    const ofOne = missed.filter(([, sender]) => sender === node).map(([event, ...args]) => [event, ...args.slice(1, 2)]);
    assert.deepEqual(ofOne.map(([event]) => event), ["missed by all", "missed in the room", "missed last"]);
    const { deep, bytes } = ofOne[1][1];
    assert.deepEqual(deep, ["é"]);
    if (keepsBytes) assert.deepEqual(comparable(bytes), { bytes: "7879" });
  }
}
