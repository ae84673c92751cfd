// A client of a test node: asks for operations, and remembers everything it receives in the order in which it came.

import assert from "node:assert/strict";

export class Client {
  #waiting = new Set();
  #disconnected;

  constructor(socket, node) {
    this.socket = socket;
    this.node = node;
    /** Every event since the last `forget`: { event, args }. */
    this.received = [];
    this.greeted = new Promise((resolve, reject) => {
      socket.once("connect_error", reject);
      socket.once("ready", (node, id, transport) => {
        assert.equal(node, this.node);
        assert.equal(id, socket.id);
        this.transport = transport;
        resolve();
      });
    });
    this.#disconnected = new Promise((resolve) => socket.once("disconnect", resolve));
    socket.onAny((event, ...args) => this.#remember(event, args));
  }

  get id() {
    return this.socket.id;
  }

  /** Performs an operation on this client's node and resolves with its outcome; fails when the operation does. */
  async op(kind, details = {}) {
    const outcome = await this.socket.timeout(LATE).emitWithAck("op", { kind, ...details });
    if (outcome.error) throw new Error(`${kind}: ${outcome.error}`);
    return outcome;
  }

  /** Performs an operation again and again until its outcome is right, for so many milliseconds at most. */
  async until(kind, details, isRight, limit = LATE) {
    const deadline = Date.now() + limit;
    for (;;) {
      const outcome = await this.op(kind, details);
      if (isRight(outcome)) return outcome;
      if (Date.now() > deadline) throw new Error(`${kind}: still ${JSON.stringify(outcome)}`);
    }
  }

  emit(select, event, ...args) {
    return this.op("emit", { select, event, args });
  }

  /** Resolves with the arguments of the first such event since the last `forget`. */
  async next(event) {
    const known = this.received.find((received) => received.event === event);
    if (known) return known.args;
    return this.#before(`'${event}' has not arrived`, (resolve) => this.#waiting.add({ event, resolve }));
  }

  /** Resolves with the reason when the connection has ended. */
  ended() {
    return this.#before("the connection has not ended", (resolve) => this.#disconnected.then(resolve));
  }

  /** The arguments of all such events so far. */
  all(event) {
    return this.received.filter((received) => received.event === event).map(({ args }) => args);
  }

  forget() {
    this.received = [];
  }

  /** Answers an event with these arguments. */
  answer(event, ...answer) {
    this.socket.on(event, (...args) => args.at(-1)(...answer));
  }

  close() {
    this.socket.disconnect();
  }

  /** A promise that fails when nothing has happened for very long, so that a test that waits says for what. */
  #before(missing, start) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`client on node ${this.node}: ${missing}`)), LATE);
      start((value) => {
        clearTimeout(late);
        resolve(value);
      });
    });
  }

  #remember(event, args) {
    // The acknowledgement function is not part of what was sent.
    const data = args.filter((argument) => typeof argument !== "function");
    this.received.push({ event, args: data });
    for (const waiting of this.#waiting) {
      if (waiting.event !== event) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(data);
    }
  }
}

/** Milliseconds after which what a test waits for will not come any more. */
const LATE = 20_000;

let markers = 0;

/**
 * Resolves when everything that `sender` has caused before has arrived, wherever it was going to: a marker sent after it has arrived
 * everywhere. So a test can say what has *not* arrived without waiting for nothing to happen.
 */
export async function settled(sender, clients) {
  markers += 1;
  const marker = `marker-${markers}`;
  const arrived = clients.map((client) => client.next(marker));
  await sender.emit({}, marker);
  await Promise.all(arrived);
}

/** Asserts which clients got `event`, once each, and all others not at all. */
export async function assertReached(sender, event, expected, clients) {
  // Some servers let a marker overtake what is large or binary.
  await Promise.all(expected.map((client) => client.next(event)));
  await settled(sender, clients);
  const counts = clients.map((client) => client.all(event).length);
  assert.deepEqual(counts, clients.map((client) => (expected.includes(client) ? 1 : 0)));
}
