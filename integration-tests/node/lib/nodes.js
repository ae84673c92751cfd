// The test nodes, and clients of them.

import { io } from "socket.io-client";
import msgpack from "socket.io-msgpack-parser";
import { Client } from "./client.js";
import { start } from "./program.js";

/**
 * Starts a cluster of test nodes.
 * @param options.parsers one for all nodes, or one for each: "common" or "msgpack"
 * @param options.transports of the clients
 */
export async function startNodes({ nodes = 3, parsers = ["common"], transports = ["websocket"] } = {}) {
  const options = ["--until-stdin-closes", "--nodes", String(nodes), "--parser", parsers.join(",")];
  const broker = process.env.TRUNKLINE_BROKER ? ["--broker", process.env.TRUNKLINE_BROKER] : [];
  const program = await start(process.env.TEST_NODE, [...options, ...broker], (line) => JSON.parse(line));
  return new Nodes(program, parsers, transports);
}

class Nodes {
  #program;
  #parsers;
  #transports;
  #clients = new Set();
  #names = 0;

  constructor(program, parsers, transports) {
    this.#program = program;
    this.#parsers = parsers;
    this.#transports = transports;
  }

  /** Connects a client to a node and waits until that node listens to it. */
  async connect(node, { namespace = "/", ...options } = {}) {
    const parser = this.#parsers[node % this.#parsers.length] === "msgpack" ? { parser: msgpack } : {};
    const socket = io(this.#program.result.nodes[node] + namespace, {
      transports: this.#transports,
      forceNew: true,
      reconnection: false,
      ...parser,
      ...options,
    });
    const client = new Client(socket, node);
    this.#clients.add(client);
    await client.greeted;
    return client;
  }

  /** A name that no other test uses, so that tests can share the nodes. */
  name(what) {
    this.#names += 1;
    return `${what}-${this.#names}`;
  }

  async stop() {
    for (const client of this.#clients) client.close();
    await this.#program.stop();
  }
}
