// The soak program (soak/soak.js) in short, so that it stays tested: one round of operations before and after each departure.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { transport } from "../lib/interop/transports.js";
import { soak } from "../lib/soak/soak.js";

describe("a soak in short", { timeout: 300_000 }, () => {
  for (const name of ["redis-streams", "postgres"]) {
    test(name, async () => {
      const { emitted, problems, ...result } = await soak(transport(name), {
        milliseconds: 0,
        untilDeparture: 0,
        untilReturn: 0,
        heartbeatInterval: 500,
        perSecond: 40,
      });
      assert.deepEqual(problems, []);
      assert.equal(result.departures, 1);
      assert.ok(emitted > 0 && result.received > 2 * emitted && result.requests > 0 && result.operations > 0);
    });
  }
});
