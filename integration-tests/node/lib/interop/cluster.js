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

/** A fourth server, with the official `instrument()` in development mode. Only started where a cell needs it. */
export const NODE_ADMIN = 5;

export const NODES = [RUST, NODE_1, NODE_2];

/** Starts a broker of its own. */
export async function startBroker({ broker }) {
  return start(process.env.TEST_BROKER, [broker], (line) => line);
}

export class MixedCluster {
  #transport;
  #broker;
  #options;
  #programs = [];
  #gone = [];
  #clients = new Set();
  #names = 0;

  constructor(transport, broker, options) {
    this.#transport = transport;
    this.#broker = broker;
    this.#options = options;
  }

  /**
   * @param transport of transports.js
   * @param options.recovery whether the nodes keep what clients of theirs may miss
   * @param options.emitters which of the emitters to start
   * @param options.heartbeatInterval milliseconds; short, so that a server that has missed an answer to its first one need not be waited for
   */
  static async start(transport, broker, { recovery = false, emitters = [], heartbeatInterval = 500 } = {}) {
    const cluster = new MixedCluster(transport, broker, { recovery, heartbeatInterval });
    // It makes the tables: the official adapters expect them.
    await cluster.startProgram(RUST);
    await Promise.all([NODE_1, NODE_2, ...emitters].map((place) => cluster.startProgram(place)));
    await cluster.counts(NODES);
    return cluster;
  }

  /** Starts the program of a place: for the first time, or again. */
  async startProgram(place) {
    const [file, options] = this.#commandOf(place);
    this.#programs[place] = await start(file, options, JSON.parse);
  }

  /** Starts the program of a place unless it is running. */
  async startOnce(place) {
    if (!this.#programs[place]) await this.startProgram(place);
  }

  /** Stops the program of a place; resolves with its exit status. */
  async stopProgram(place, signal) {
    const program = this.#programs[place];
    this.#gone.push(program);
    delete this.#programs[place];
    return program.stop(signal);
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
    return [...this.#gone, ...this.#programs].flatMap((program) => program?.complaints ?? []);
  }

  /** Closes all clients but these. */
  closeClients(kept = []) {
    for (const client of this.#clients) {
      if (kept.includes(client)) continue;
      client.close();
      this.#clients.delete(client);
    }
  }

  async stop() {
    this.closeClients();
    await Promise.all(this.#programs.map((program) => program?.stop()));
  }

  /** Waits until each of these nodes counts all of them in both namespaces. */
  async counts(places, limit) {
    for (const namespace of ["/", "/other"]) {
      for (const place of places) {
        const client = await this.connect(place, { namespace });
        await client.until("serverCount", {}, ({ count }) => count === places.length, limit);
        client.close();
        this.#clients.delete(client);
      }
    }
  }

  #commandOf(place) {
    const { recovery, heartbeatInterval } = this.#options;
    const url = trunklineUrl(this.#transport, this.#broker);
    const rust = (...options) => [process.env.TEST_NODE, ["--until-stdin-closes", "--nodes", "1", ...options]];
    const adapter = ["--transport", this.#transport.name, "--options", JSON.stringify(this.#transport.node)];
    const node = (...options) => [process.execPath, [PEER, ...adapter, "--url", this.#broker, "--index", String(place), ...options]];
    const heartbeats = ["--heartbeat-interval", String(heartbeatInterval)];
    if (place === RUST) return rust("--broker", url, ...heartbeats, ...(recovery ? ["--append-offsets"] : []));
    if (place === RUST_EMITTER) return rust("--emits-to", url, "--first", String(RUST_EMITTER));
    if (place === NODE_ADMIN) return node(...heartbeats, "--instrument", "{}");
    if (place === NODE_EMITTER) return node("--emitter");
    return node(...heartbeats, ...(recovery ? ["--recovery"] : []));
  }
}

const PEER = fileURLToPath(new URL("../../peers/peer.js", import.meta.url));
