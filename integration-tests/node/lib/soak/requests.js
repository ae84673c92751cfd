// Requests that every node makes in turn, each with all that it must bring in.

import assert from "node:assert/strict";
import { setTimeout as after } from "node:timers/promises";
import { comparable } from "../cases/payloads.js";
import { ROOM } from "./series.js";

/** Lets a client answer what is asked here. */
export function answerRequests(client) {
  client.socket.on("who", (question, answer) => answer({ id: client.id, question }));
}

/** Makes one request after the other while the number of nodes stands still. */
export class Requests {
  count = 0;
  #clients;
  #name;
  #problems;
  #running;
  #isPaused = true;

  /**
   * @param clients all clients of the namespace, one of every node
   * @param name makes names that nothing else has
   */
  constructor(clients, name, problems) {
    [this.#clients, this.#name, this.#problems] = [clients, name, problems];
  }

  resume(perSecond) {
    this.#isPaused = false;
    this.#running = this.#run(1000 / perSecond);
  }

  /** On return no request is under way. */
  async pause() {
    this.#isPaused = true;
    await this.#running;
  }

  async #run(interval) {
    while (!this.#isPaused) {
      // Kinds and clients have no common divisor that would keep them from meeting: a round of kinds moves on by one client.
      const kind = kinds[this.count % kinds.length];
      const asker = this.#clients[(this.count + Math.floor(this.count / kinds.length)) % this.#clients.length];
      this.count += 1;
      try {
        await kind(asker, this.#clients, this.#name);
      } catch (error) {
        this.#problems.add(`${kind.name} on node ${asker.node}: ${error.message}`);
      }
      await after(interval);
    }
  }
}

const kinds = [acknowledged, acknowledgedInBinary, fetched, described, counted, visited];

async function acknowledged(asker, clients) {
  const { answers, silent } = await asker.op("emitWithAck", { event: "who", args: ["are you?"], select: { timeout: TIMEOUT } });
  assert.deepEqual(answers.map(([, { id }]) => id).sort(), idsOf(clients));
  assert.deepEqual(silent, []);
}

async function acknowledgedInBinary(asker, clients) {
  const question = { deep: [Buffer.from("are you?")] };
  const { answers } = await asker.op("emitWithAck", { event: "who", args: [question], select: { to: [ROOM], timeout: TIMEOUT } });
  assert.deepEqual(answers.map(([, { id }]) => id).sort(), idsOf(clients));
  for (const [, answer] of answers) assert.deepEqual(comparable(answer.question), comparable(question));
}

async function fetched(asker, clients) {
  const { sockets } = await asker.op("fetchSockets");
  assert.deepEqual(sockets.map(({ id }) => id).sort(), idsOf(clients));
}

async function described(asker, clients) {
  const { described } = await asker.op("describeSockets", { select: { to: [ROOM] } });
  assert.deepEqual(described.map(({ id }) => id).sort(), idsOf(clients));
  for (const { rooms } of described) assert.ok(rooms.includes(ROOM), String(rooms));
}

async function counted(asker, clients) {
  const nodes = new Set(clients.map(({ node }) => node));
  assert.equal((await asker.op("serverCount")).count, nodes.size);
}

/** A client of the next node enters a room, is addressed there, and leaves it. */
async function visited(asker, clients, name) {
  const visitor = clients[(clients.indexOf(asker) + 1) % clients.length];
  const room = name("visited");
  await visitor.op("join", { rooms: [room] });
  const heard = visitor.next(room);
  await asker.emit({ to: [room] }, room, visitor.id);
  assert.deepEqual(await heard, [visitor.id]);
  await visitor.op("leave", { rooms: [room] });
}

function idsOf(clients) {
  return clients.map(({ id }) => id).sort();
}

/** Milliseconds: what a request never needs. */
const TIMEOUT = 15_000;
