// Cells of the table that cannot work, and why. A test of such a cell is not made; every other one must pass.

import { NODE_TO_RUST, RUST_TO_NODE } from "./directions.js";

const HEARTBEAT_ADAPTERS = ["postgres", "mongodb", "nats", "rabbitmq"];
const CLUSTER_ADAPTERS = ["redis-sharded", "redis-streams", ...HEARTBEAT_ADAPTERS];
const EMITTER_CELLS = [
  "emitter: emit to all, to rooms, except rooms",
  "emitter: binary, volatile",
  "emitter: socketsJoin, socketsLeave",
  "emitter: disconnectSockets",
  "emitter: serverSideEmit",
  "emitter: a room that is a number",
  "emitter: a custom namespace",
];

/** @typedef {{ cells: string[], transports: string[], direction: string, why: string }} Exception */
/** @type {Exception[]} */
export const exceptions = [
  {
    cells: ["all rooms"],
    transports: CLUSTER_ADAPTERS,
    direction: NODE_TO_RUST,
    why: "only the classic Redis adapter of Node.js has `allRooms()`",
  },
  {
    cells: ["rooms that are none, such as undefined"],
    transports: ["redis-pubsub", ...CLUSTER_ADAPTERS],
    direction: RUST_TO_NODE,
    why: "rooms of socketioxide are text",
  },
  {
    cells: ["order of one sender", "order of one sender, small and large messages"],
    transports: ["postgres", "mongodb"],
    direction: NODE_TO_RUST,
    why: "the Node.js adapter publishes over several connections, which overtake each other",
  },
  {
    cells: ["order of one sender, small and large messages"],
    transports: ["postgres"],
    direction: RUST_TO_NODE,
    why: "the Node.js adapter fetches what is large from a table, and does not wait for it",
  },
  {
    cells: ["every size around 8,000 bytes"],
    transports: ["postgres"],
    direction: NODE_TO_RUST,
    why: "the Node.js adapter loses messages of exactly 8,000 bytes: the server takes 7,999",
  },
  {
    cells: ["disconnectSockets, closing connections"],
    transports: ["redis-pubsub", ...CLUSTER_ADAPTERS],
    direction: NODE_TO_RUST,
    why: "socketioxide can leave the namespace for a client, but not close its connection",
  },
  {
    cells: ["serverSideEmit with binary"],
    transports: ["redis-pubsub"],
    direction: NODE_TO_RUST,
    why: "the Node.js adapter sends server-side events as JSON, bytes as lists of numbers",
  },
  {
    cells: ["serverSideEmit with binary"],
    transports: ["mongodb"],
    direction: RUST_TO_NODE,
    why: "the Node.js adapter hands bytes in server-side events over as `Binary` objects of the database",
  },
  {
    cells: EMITTER_CELLS,
    transports: ["redis-sharded"],
    direction: NODE_TO_RUST,
    why: "no official emitter publishes for the sharded adapter: one is for the classic adapter, one for streams",
  },
  ...[RUST_TO_NODE, NODE_TO_RUST].map((direction) => ({
    cells: ["a session that one side has persisted is restored by the other"],
    transports: ["redis-pubsub", "redis-sharded", "postgres", "nats", "rabbitmq"],
    direction,
    why: "the Node.js adapter keeps no sessions",
  })),
];

/** Why this cell cannot work, if it cannot. */
export function exceptionOf(cell, transport, direction) {
  return exceptions.find(
    (exception) =>
      exception.cells.includes(cell) && exception.transports.includes(transport) && exception.direction === direction,
  )?.why;
}
