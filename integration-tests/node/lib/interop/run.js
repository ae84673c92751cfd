// Runs the cells of one transport in both directions. Each file interop/NAME.test.js does so for a transport or a variant of it, in a process
// of its own. The table shows the transports; their variants must work alike.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { cells } from "./cells.js";
import { MixedCluster, NODE_1, NODE_2, NODE_EMITTER, RUST, RUST_EMITTER, startBroker } from "./cluster.js";
import { directions } from "./directions.js";
import { exceptionOf } from "./exceptions.js";

/**
 * @param transport of transports.js
 * @param chosen the cells that a variant may change
 */
export function mixedCluster(transport, chosen = cells) {
  describe(`${transport.title}: one Rust node and two Node.js nodes`, { timeout: 300_000 }, () => {
    const shared = {};
    const results = {};
    before(async () => {
      shared.broker = await startBroker(transport);
      const emitters = [RUST_EMITTER, ...(transport.hasEmitter ? [NODE_EMITTER] : [])];
      shared.cluster = await MixedCluster.start(transport, shared.broker.result, { emitters });
      for (const place of [NODE_1, NODE_2]) await ask(shared.cluster, place, "watchServers");
    });
    for (const [direction, places] of Object.entries(directions)) {
      results[direction] = {};
      describe(direction, () => runCells(transport, chosen, { direction, places, shared, results: results[direction] }));
    }
    test("the Node.js servers counted three servers all the time, and nobody complained", () => assertHealthy(shared));
    after(async () => {
      for (const program of [shared.cluster, shared.broker, ...(shared.recovering ?? [])]) await program?.stop();
      if (process.env.INTEROP_RESULTS && !transport.isVariant) {
        await writeFile(join(process.env.INTEROP_RESULTS, `${transport.name}.json`), JSON.stringify(results));
      }
    });
  });
}

function runCells(transport, chosen, { direction, places, shared, results }) {
  const t = { transport, direction };
  before(async () => {
    Object.assign(t, await stage(shared.cluster, places));
    t.recovering = () => recovering(transport, shared);
  });
  beforeEach(() => t.everybody.forEach((client) => client.forget()));
  after(() => t.everybody?.forEach((client) => client.close()));

  for (const { name, run } of chosen) {
    if (exceptionOf(name, transport.name, direction)) continue;
    test(name, { timeout: 60_000 }, async () => {
      results[name] = false;
      await run(t);
      results[name] = true;
    });
  }
}

/** What cells work with; a and a2 are clients of the calling node, b of the other kind, c of the third. */
export async function stage(cluster, places) {
  const clients = await Promise.all([places.near, places.near, places.far, places.third].map((place) => cluster.connect(place)));
  const [a, a2, b, c] = clients;
  // Clients on nodes of the other kind than the caller.
  const others = places.near === RUST ? [b, c] : [b];
  return { cluster, places, a, a2, b, c, others, everybody: clients, name: (what) => cluster.name(what) };
}

/** A second cluster, with recovery on, over a broker of its own. Started when it is first needed. */
async function recovering(transport, shared) {
  if (!shared.recovering) {
    const broker = await startBroker(transport);
    const cluster = await MixedCluster.start(transport, broker.result, { recovery: true });
    shared.recovering = [cluster, broker];
  }
  return shared.recovering[0];
}

async function assertHealthy({ cluster, recovering }) {
  for (const place of [NODE_1, NODE_2]) {
    const { seen } = await ask(cluster, place, "seenServers");
    assert.deepEqual(seen, { "/": [3], "/other": [3] });
  }
  assert.deepEqual([...cluster.complaints(), ...(recovering?.[0].complaints() ?? [])], []);
  assert.deepEqual(mishaps((await ask(cluster, RUST, "counters")).counters), []);
}

/** The counters of a Rust node that tell of something that went wrong. */
export function mishaps(counters, names = MISHAPS) {
  return Object.entries(counters).filter(([name, count]) => count > 0 && names.includes(name));
}

/** An operation of a client that is there only for that. */
async function ask(cluster, place, kind) {
  const client = await cluster.connect(place);
  const outcome = await client.op(kind);
  client.close();
  return outcome;
}

/** Counters of a Rust node that stay 0 while nothing goes wrong. */
export const MISHAPS = [
  "malformed",
  "unknown_type",
  "inbox_overflow",
  "outgoing_overflow",
  "publish_errors",
  "gaps",
  "missed",
  "connections_lost",
  "dropped_by_sockets",
];
