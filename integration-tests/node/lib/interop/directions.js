// Who calls the operation, and across which border it goes.

import { NODE_1, NODE_2, NODE_EMITTER, RUST, RUST_EMITTER } from "./cluster.js";

export const RUST_TO_NODE = "Rust → Node.js";
export const NODE_TO_RUST = "Node.js → Rust";

/** Where the clients of a cell stand: `near` calls the operation, `far` is of the other kind, `third` is the remaining Node.js node. */
export const directions = {
  [RUST_TO_NODE]: { near: RUST, far: NODE_1, third: NODE_2, emitter: RUST_EMITTER },
  [NODE_TO_RUST]: { near: NODE_1, far: RUST, third: NODE_2, emitter: NODE_EMITTER },
};
