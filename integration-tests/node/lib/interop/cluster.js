// A cluster of one Rust node and two Node.js nodes over one broker, and clients of them.

import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { Client } from "../client.js";
import { start } from "../program.js";
import { trunklineUrl } from "./transports.js";

/** The places of the nodes. */
export const RUST = 0;
export const NODE_1 = 1;
export const NODE_2 = 2;
/** Programs that are no nodes: what their clients ask for is done by an emitter. */
export const RUST_EMITTER = 3;
export const NODE_EMITTER = 4;

const NODES = [RUST, NODE_1, NODE_2];

/** Starts a broker of its own. */
export async function startBroker({ broker }) {
  return start(process.env.TEST_BROKER, [broker], (line) => line);
}

export class MixedCluster {
  #programs;
  #clients = new Set();
  #names = 0;

  constructor(programs) {
    this.#programs = programs;
  }

  /**
   * @param transport of transports.js
   * @param options.recovery whether the nodes keep what clients of theirs may miss
   * @param options.emitters which of the emitters to start
   */
  static async start(transport, broker, { recovery = false, emitters = [] } = {}) {
    const rust = (...options) => start(process.env.TEST_NODE, ["--until-stdin-closes", "--nodes", "1", ...options], JSON.parse);
    const node = (place, ...options) =>
      start(process.execPath, [PEER, ...adapter, "--url", broker, "--index", String(place), ...options], JSON.parse);
    const adapter = ["--transport", transport.name, "--options", JSON.stringify(transport.node)];
    const url = trunklineUrl(transport, broker);
    // The first one makes the tables: the official adapters expect them.
    const first = await rust("--broker", url, "--heartbeat-interval", "500", ...(recovery ? ["--append-offsets"] : []));
    const others = [NODE_1, NODE_2].map((place) => node(place, ...(recovery ? ["--recovery"] : [])));
    others.push(emitters.includes(RUST_EMITTER) ? rust("--emits-to", url, "--first", String(RUST_EMITTER)) : undefined);
    others.push(emitters.includes(NODE_EMITTER) ? node(NODE_EMITTER, "--emitter") : undefined);
    const cluster = new MixedCluster([first, ...(await Promise.all(others))]);
    await cluster.#ready();
    return cluster;
  }

  /** Connects a client to a node and waits until that node listens to it. */
  async connect(place, { namespace = "/", ...options } = {}) {
    const [address] = this.#programs[place].result.nodes;
    const socket = io(address + namespace, { transports: ["websocket"], forceNew: true, reconnection: false, ...options });
    const client = new Client(socket, place);
    this.#clients.add(client);
    await client.greeted;
    return client;
  }

  /** A name that no other cell uses, so that cells can share the nodes. */
  name(what) {
    this.#names += 1;
    return `${what}-${this.#names}`;
  }

  /** Everything that the servers have complained about. */
  complaints() {
    return this.#programs.flatMap((program) => program?.complaints ?? []);
  }

  async stop() {
    for (const client of this.#clients) client.close();
    await Promise.all(this.#programs.map((program) => program?.stop()));
  }

  /** Waits until every node counts three in both namespaces. */
  async #ready() {
    for (const namespace of ["/", "/other"]) {
      for (const place of NODES) {
        const client = await this.connect(place, { namespace });
        await client.until("serverCount", {}, ({ count }) => count === NODES.length);
        client.close();
      }
    }
  }
}

const PEER = fileURLToPath(new URL("../../peers/peer.js", import.meta.url));
