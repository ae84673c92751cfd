// One balancer with its configuration of docker/balancers/.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configured } from "./configuration.js";
import { reservePorts } from "./ports.js";

const running = new Set();
// A balancer gets the time to end its own processes; the tests stop it before that.
process.once("exit", () => running.forEach((child) => child.kill("SIGTERM")));

export class Balancer {
  #kind;
  #child;
  #folder;
  #drained = new Set();
  #complaints = [];

  /** @param kind of kinds.js */
  static async start(kind, nodes) {
    const balancer = new Balancer();
    balancer.#kind = kind;
    balancer.#folder = await mkdtemp(join(tmpdir(), "trunkline-balancer-"));
    // The workers of a balancer are not of the user that has started it.
    await chmod(balancer.#folder, 0o755);
    const [http, proxy, peers] = await reservePorts(3);
    balancer.ports = { http, proxy, peers };
    await balancer.#write(nodes);
    try {
      await balancer.#spawn();
    } catch (error) {
      await balancer.stop();
      throw error;
    }
    return balancer;
  }

  get url() {
    return `http://127.0.0.1:${this.ports.http}`;
  }

  get complaints() {
    return this.#complaints;
  }

  /** From now on this node gets clients, too. */
  async add(node, nodes) {
    if (this.#kind.add) return this.#kind.add(this.#child, this.#folder, node, nodes[node]);
    await this.#write(nodes);
    this.#kind.reload?.(this.#child, this.#folder);
  }

  /** From now on this node gets no new clients. */
  async drain(node, nodes) {
    if (this.#kind.drain) return this.#kind.drain(this.#child, this.#folder, node);
    this.#drained.add(node);
    await this.#write(nodes);
    this.#kind.reload?.(this.#child, this.#folder);
  }

  async stop() {
    running.delete(this.#child);
    if (!this.#hasEnded()) {
      this.#child.kill("SIGTERM");
      await once(this.#child, "exit");
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #write(nodes) {
    const files = await this.#kind.files(this.#folder, (file) => configured(file, nodes, this.ports));
    for (const [name, text] of Object.entries(files)) {
      const drained = [...this.#drained].reduce((text, node) => this.#kind.drained?.(text, name, nodes[node], node) ?? text, text);
      // At once as a whole, since some of them read it when it changes.
      await writeFile(join(this.#folder, "new"), drained);
      await rename(join(this.#folder, "new"), join(this.#folder, name));
    }
  }

  async #spawn() {
    const [file, ...options] = this.#kind.command(this.#folder);
    this.#child = spawn(file, options, { stdio: ["ignore", "pipe", "pipe"] });
    running.add(this.#child);
    const output = (text) => this.#complaints.push(...String(text).trim().split("\n"));
    this.#child.stdout.on("data", output);
    this.#child.stderr.on("data", output);
    await this.#answers();
  }

  #hasEnded() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Waits until a handshake comes through. */
  async #answers() {
    for (const deadline = Date.now() + 20_000; ; ) {
      const status = await fetch(`${this.url}/socket.io/?EIO=4&transport=polling`).then(({ status }) => status, String);
      if (status === 200) return;
      if (Date.now() > deadline || this.#hasEnded()) throw new Error(`no handshake: ${status}; ${this.#complaints.join("\n")}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
