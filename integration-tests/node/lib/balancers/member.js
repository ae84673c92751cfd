// A client behind a balancer: where it is, what it received, and each time it lost its connection.

import { io } from "socket.io-client";

/** Milliseconds between a loss and the first attempt to come back, with the variation that clients have by default. */
export const RECONNECTION_DELAY = 500;

export class Member {
  /** The letter of the node, empty while there is no connection. */
  node = "";
  transport = "";
  ticks = [];
  /** { step, node, reason, status, attempts, milliseconds }: status is the HTTP status that ended the connection, if any. */
  losses = [];
  #lost;

  /**
   * @param group.name of the kind of clients
   * @param step answers which step of the trial it is now
   */
  constructor(url, group, step) {
    this.group = group;
    this.socket = io(url, {
      forceNew: true,
      transports: group.transports,
      withCredentials: group.cookies,
      query: group.query,
      reconnectionDelay: RECONNECTION_DELAY,
      reconnectionDelayMax: 4 * RECONNECTION_DELAY,
    });
    this.socket.on("ready", (node, id, transport) => this.#arrived(LETTERS[node], transport));
    this.socket.on("tick", (number) => this.ticks.push(number));
    this.socket.io.on("close", (reason, details) => this.#left(step(), reason, details));
    this.socket.io.on("reconnect_attempt", () => this.#lost && (this.#lost.attempts += 1));
    this.socket.io.on("error", (error) => this.#lost?.failures.push(`${error.message} ${error.description ?? ""}`));
    this.socket.io.on("open", () => this.socket.io.engine.once("upgradeError", (error) => (this.upgradeError = error.message)));
  }

  get isConnected() {
    return this.node !== "";
  }

  /** The transport that carries the connection now. */
  get carrier() {
    return this.socket.io.engine?.transport?.name;
  }

  /** What a browser would send as header, empty without a cookie. */
  get cookie() {
    const cookies = this.socket.io.engine?._cookieJar?.cookies ?? [];
    return [...cookies].map(([name, { value }]) => `${name}=${value}`).join("; ");
  }

  close() {
    this.closed = true;
    this.socket.disconnect();
  }

  #arrived(node, transport) {
    this.node = node;
    this.transport = transport;
    if (this.#lost) this.#lost.milliseconds = Math.round(performance.now() - this.#lost.at);
    this.#lost = undefined;
  }

  #left(step, reason, details) {
    if (this.closed) return;
    const status = details?.description;
    const loss = { step, node: this.node, reason, status, body: details?.context?.responseText, attempts: 0, failures: [], at: performance.now() };
    this.losses.push(loss);
    // A connection that was lost before it was greeted belongs to the same absence.
    this.#lost ??= loss;
    this.node = "";
  }
}

const LETTERS = ["a", "b", "c", "d"];
