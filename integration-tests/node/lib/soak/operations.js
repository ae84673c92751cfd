// The cells of the table of docs/interop.md, again and again.

import { cells } from "../interop/cells.js";
import { directions } from "../interop/directions.js";
import { exceptionOf } from "../interop/exceptions.js";
import { stage } from "../interop/run.js";

/** What cannot be repeated beside other traffic. */
const LEFT_OUT = [
  // They wait until a request has timed out, which nothing else may.
  "a client that stays silent",
  "serverSideEmit, a server does not answer",
  // It makes a namespace, which servers keep; the numbered messages are in a dynamic one.
  "a dynamic namespace",
  // They start a cluster of their own.
  "a session that one side has persisted is restored by the other",
  "fetchSockets: a handshake that no application has set, instrument()",
];

/**
 * All operations, called on one kind of server after the other. Resolves with how many there were.
 * @param lasting the clients of other traffic
 */
export async function runOperations(transport, cluster, lasting, problems) {
  let count = 0;
  for (const [direction, places] of Object.entries(directions)) {
    const t = { transport, direction, ...(await stage(cluster, places)) };
    // Those of the round before are gone everywhere.
    await t.a.until("fetchSockets", {}, ({ sockets }) => sockets.length === t.everybody.length);
    for (const { name, run } of cells) {
      if (LEFT_OUT.includes(name) || exceptionOf(name, transport.name, direction)) continue;
      t.everybody.forEach((client) => client.forget());
      count += 1;
      await run(t).catch((error) => problems.add(`${name}, ${direction}: ${error.message}`));
      problems.assertFew();
    }
    cluster.closeClients(lasting);
  }
  return count;
}
