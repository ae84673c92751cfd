// Numbered messages from every node to every client, and the account that each client keeps of them: nothing lost, repeated, changed or out
// of order.

import { setTimeout as after } from "node:timers/promises";

const EVENT = "series";
/** Every client is in it, so that each message is for all, whichever way it goes. */
export const ROOM = "series";

/** Emits numbered messages on a client's node until it is stopped. */
export class Sender {
  /** The number of the message that was begun last. */
  started = 0;
  #client;
  #running;
  #isStopped = false;

  /** @param key tells this sender from all others, also earlier ones of the same node */
  constructor(client, key, perSecond) {
    this.#client = client;
    this.key = key;
    this.#running = this.#run(1000 / perSecond);
    // Awaited when it is stopped.
    this.#running.catch(() => {});
  }

  /** On return all it has emitted has been published. */
  async stop() {
    this.#isStopped = true;
    await this.#running;
  }

  async #run(interval) {
    while (!this.#isStopped) {
      this.started += 1;
      const { select, body } = message(this.started);
      await this.#client.emit(select, EVENT, this.key, this.started, body);
      await after(interval);
    }
  }
}

/** What a client receives of all senders. */
export class Receiver {
  count = 0;
  #accounts = new Map();
  #promises;
  #problems;
  #name;

  /**
   * @param promises.wholeOrder whether large and binary messages keep their places too
   */
  constructor(client, promises, problems) {
    this.#name = `the client of node ${client.node}`;
    this.#promises = promises;
    this.#problems = problems;
    client.socket.on(EVENT, (key, number, body) => this.#receive(key, number, body));
  }

  /** Everything of these senders that is begun from now on must arrive. */
  expect(senders) {
    for (const { key, started } of senders) this.#accounts.set(key, new Account(started + 1));
  }

  /** What has not arrived of the messages up to this number. */
  missing({ key }, last) {
    const { next, ahead } = this.#account(key);
    const numbers = Array.from({ length: Math.max(0, last - next + 1) }, (_, index) => next + index);
    return numbers.filter((number) => !ahead.has(number));
  }

  /** Reports what is missing, once. */
  giveUp(sender, last) {
    const missing = this.missing(sender, last);
    if (missing.length === 0) return;
    this.#problems.add(`${this.#name} lacks ${missing.length} messages of ${sender.key}: ${missing.slice(0, 5)}…`);
    this.#account(sender.key).next = last + 1;
  }

  #receive(key, number, body) {
    const account = this.#account(key);
    const described = `${this.#name}: ${number} of ${key}`;
    this.count += 1;
    if (!isIntact(number, body)) this.#problems.add(`${described} was changed on its way`);
    // From before it was expected.
    if (number < account.first) return;
    if (number < account.next || account.ahead.has(number)) return this.#problems.add(`${described} came twice, or after it was given up`);
    if (this.#promises.wholeOrder || isPlain(number)) {
      if (number < account.last) this.#problems.add(`${described} came after ${account.last}`);
      account.last = Math.max(account.last, number);
    }
    account.ahead.add(number);
    for (; account.ahead.delete(account.next); account.next += 1);
  }

  #account(key) {
    if (!this.#accounts.has(key)) this.#accounts.set(key, new Account(1));
    return this.#accounts.get(key);
  }
}

/** Waits until all receivers have what all senders have begun so far; reports what has not arrived in time. */
export async function drain(senders, receivers, limit) {
  const due = senders.map((sender) => [sender, sender.started]);
  const deadline = Date.now() + limit;
  const isComplete = () => receivers.every((receiver) => due.every(([sender, last]) => receiver.missing(sender, last).length === 0));
  while (!isComplete() && Date.now() < deadline) await after(50);
  for (const receiver of receivers) for (const [sender, last] of due) receiver.giveUp(sender, last);
}

/** What one receiver has of one sender. */
class Account {
  /** What has come behind `next`. */
  ahead = new Set();
  /** The highest number so far of those that keep their order. */
  last = 0;

  constructor(first) {
    this.first = first;
    /** Below it nothing is missing. */
    this.next = first;
  }
}

/** The kinds of messages take turns. */
function message(number) {
  const select = number % 3 === 0 ? {} : { to: [ROOM] };
  return { select, body: bodyOf(number) };
}

function bodyOf(number) {
  if (isLarge(number)) return `${number} ${"x".repeat(20_000)}`;
  return isBinary(number) ? { deep: [Buffer.from(`message ${number}`)] } : `message ${number}`;
}

function isIntact(number, body) {
  if (isBinary(number)) return body?.deep?.[0] instanceof Uint8Array && Buffer.from(body.deep[0]).toString() === `message ${number}`;
  return body === bodyOf(number);
}

const isLarge = (number) => number % 100 === 50;
const isBinary = (number) => number % 10 === 7;
const isPlain = (number) => !isLarge(number) && !isBinary(number);
