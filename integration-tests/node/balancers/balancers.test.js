// Clients behind each balancer of Debian, with its configuration of docker/balancers/, while nodes come and go. Short: `just balancers` has more.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { kinds } from "../lib/balancers/kinds.js";
import { trial } from "../lib/balancers/trial.js";

const plan = { polling: 40, calm: 1_000, beat: 250, late: 60_000 };

describe("balancers", { concurrency: true }, () => {
  for (const name of ["nginx-1.22", "haproxy", "apache"]) {
    test(`${name}: no client loses its connection but with its node`, async () => {
      const { clients, losses } = await trial(kinds[name], plan);
      assert.ok(clients > 0 && losses > 0);
    });
  }
});
