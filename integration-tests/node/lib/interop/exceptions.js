// Cells of the table that cannot work, and why. A test of such a cell is not made; every other one must pass.

import { NODE_TO_RUST, RUST_TO_NODE } from "./directions.js";

const HEARTBEAT_ADAPTERS = ["postgres", "mongodb", "nats", "rabbitmq"];
const CLUSTER_ADAPTERS = ["redis-sharded", "redis-streams", ...HEARTBEAT_ADAPTERS];

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
];

/** Why this cell cannot work, if it cannot. */
export function exceptionOf(cell, transport, direction) {
  return exceptions.find(
    (exception) =>
      exception.cells.includes(cell) && exception.transports.includes(transport) && exception.direction === direction,
  )?.why;
}
