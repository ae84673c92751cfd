// All operations of an adapter, performed by clients of three nodes. Each file of clients/ runs them over one transport and parser.

import { after, before, beforeEach, describe } from "node:test";
import { acknowledgementCases } from "./cases/acknowledgements.js";
import { broadcastCases } from "./cases/broadcasts.js";
import { namespaceCases } from "./cases/namespaces.js";
import { payloadCases } from "./cases/payloads.js";
import { serverSideCases } from "./cases/server-side.js";
import { socketCases } from "./cases/sockets.js";
import { startNodes } from "./nodes.js";

/** @param options as for `startNodes` */
export function allOperations(title, options) {
  describe(title, () => {
    // Filled before the first case; a and a2 are on one node, b and c on others.
    const cluster = {};
    before(async () => {
      cluster.nodes = await startNodes(options);
      const places = [0, 0, 1, 2];
      const clients = await Promise.all(places.map((node) => cluster.nodes.connect(node)));
      const [a, a2, b, c] = clients;
      Object.assign(cluster, { a, a2, b, c, everybody: clients, options });
    });
    beforeEach(() => cluster.everybody.forEach((client) => client.forget()));
    after(() => cluster.nodes.stop());

    describe("broadcast", () => broadcastCases(cluster));
    describe("payloads", () => payloadCases(cluster));
    describe("acknowledgements", () => acknowledgementCases(cluster));
    describe("sockets", () => socketCases(cluster));
    describe("between servers", () => serverSideCases(cluster));
    describe("namespaces", () => namespaceCases(cluster));
  });
}
