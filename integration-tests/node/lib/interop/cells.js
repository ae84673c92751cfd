// The rows of the table: every operation of a cluster, called on one kind of server with an effect on the other.

import { acknowledgementCells } from "./cells/acknowledgements.js";
import { broadcastCells } from "./cells/broadcasts.js";
import { emitterCells } from "./cells/emitters.js";
import { namespaceCells } from "./cells/namespaces.js";
import { numberCells } from "./cells/numbers.js";
import { payloadCells } from "./cells/payloads.js";
import { serverCells } from "./cells/servers.js";
import { sessionCells } from "./cells/sessions.js";
import { socketCells } from "./cells/sockets.js";

/** { name, run(t) } in the order of the table; `t` is described in run.js. */
export const cells = [
  ...broadcastCells,
  ...payloadCells,
  ...acknowledgementCells,
  ...socketCells,
  ...numberCells,
  ...serverCells,
  ...namespaceCells,
  ...sessionCells,
  ...emitterCells,
];
