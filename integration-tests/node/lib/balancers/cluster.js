// Test nodes, a process each so that one can be killed, on ports that stay theirs.

import { io } from "socket.io-client";
import { start } from "../program.js";
import { reservePorts } from "./ports.js";

export class Cluster {
  /** Of the nodes that have been started, by letter. */
  ports = {};
  #reserved = {};
  #broker;
  #programs = {};
  #observer;
  #ticks = 0;

  /** Starts nodes `a`, `b` and `c` over a Redis of their own. */
  static async start() {
    const cluster = new Cluster();
    cluster.#broker = await start(process.env.TEST_BROKER, ["redis"], (line) => line);
    const ports = await reservePorts(LETTERS.length);
    LETTERS.forEach((letter, index) => (cluster.#reserved[letter] = ports[index]));
    await Promise.all(["a", "b", "c"].map((letter) => cluster.add(letter)));
    // It is on a node that stays.
    cluster.#observer = io(`http://127.0.0.1:${cluster.ports.a}`, { transports: ["websocket"], forceNew: true });
    await new Promise((resolve) => cluster.#observer.once("ready", resolve));
    await cluster.#knowsAll();
    return cluster;
  }

  async add(letter) {
    const port = this.#reserved[letter];
    const options = ["--until-stdin-closes", "--nodes", "1", "--first", String(LETTERS.indexOf(letter)), "--port", String(port), "--broker", this.#broker.result];
    this.#programs[letter] = await start(process.env.TEST_NODE, options, JSON.parse);
    this.ports[letter] = port;
    if (this.#observer) await this.#knowsAll();
  }

  /** Ends a node, with SIGTERM or SIGKILL. */
  async end(letter, signal) {
    const program = this.#programs[letter];
    delete this.#programs[letter];
    await program.stop(signal);
  }

  /** Emits the next number to all clients of all nodes. */
  async tick() {
    const number = this.#ticks;
    this.#ticks += 1;
    await this.op("emit", { event: "tick", args: [number] });
    return number;
  }

  async op(kind, details = {}) {
    const outcome = await this.#observer.timeout(20_000).emitWithAck("op", { kind, ...details });
    if (outcome.error) throw new Error(`${kind}: ${outcome.error}`);
    return outcome;
  }

  async stop() {
    this.#observer?.disconnect();
    await Promise.all(Object.values(this.#programs).map((program) => program.stop()));
    await this.#broker.stop();
  }

  /** Waits until the node of the observer knows all nodes that are running. */
  async #knowsAll() {
    for (const deadline = Date.now() + 20_000; ; ) {
      const { count } = await this.op("serverCount");
      if (count >= Object.keys(this.#programs).length) return;
      if (Date.now() > deadline) throw new Error(`there are still ${count} servers`);
    }
  }
}

const LETTERS = ["a", "b", "c", "d"];
