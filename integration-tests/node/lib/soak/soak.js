// Minutes in a mixed cluster: steady traffic of all kinds, and now and then a node that leaves and comes back.

import { setTimeout as after } from "node:timers/promises";
import { MixedCluster, NODE_1, NODE_2, NODE_EMITTER, NODES, RUST, RUST_EMITTER, startBroker } from "../interop/cluster.js";
import { mishaps, MISHAPS } from "../interop/run.js";
import { runOperations } from "./operations.js";
import { Problems } from "./problems.js";
import { answerRequests, Requests } from "./requests.js";
import { drain, Receiver, ROOM, Sender } from "./series.js";

/** Who leaves, in turn, and how. */
const DEPARTURES = [
  [NODE_2, "SIGTERM"],
  [RUST, "SIGKILL"],
  [NODE_1, "SIGKILL"],
  [RUST, "SIGTERM"],
  [NODE_2, "SIGKILL"],
  [NODE_1, "SIGTERM"],
];
/** No cell of the table uses it. */
const NAMESPACE = "/dynamic/soak";

/**
 * @param transport of interop/transports.js
 * @param plan.milliseconds after which no other node leaves; one does in any case, and what has begun is ended
 * @param plan.untilDeparture milliseconds between a node's return and the next departure
 * @param plan.untilReturn milliseconds for which two nodes are alone
 * @param plan.heartbeatInterval milliseconds
 * @param plan.perSecond how many numbered messages each node emits
 * @param progress is called with a result so far
 * @returns { emitted, received, requests, operations, departures, problems, seconds }
 */
export async function soak(transport, plan, progress = () => {}) {
  const broker = await startBroker(transport);
  try {
    const emitters = [RUST_EMITTER, ...(transport.hasEmitter ? [NODE_EMITTER] : [])];
    const cluster = await MixedCluster.start(transport, broker.result, { emitters, heartbeatInterval: plan.heartbeatInterval });
    const run = new Soak(transport, cluster, plan);
    const reporting = setInterval(() => progress(run.result()), 10_000);
    await run.run();
    clearInterval(reporting);
    return await run.end();
  } finally {
    await broker.stop();
  }
}

class Soak {
  #transport;
  #cluster;
  #plan;
  #problems = new Problems();
  /** The nodes that run, each with a client, a sender and a receiver. */
  #members = [];
  #requests;
  #counts = { emitted: 0, received: 0, requests: 0, operations: 0, departures: 0 };

  constructor(transport, cluster, plan) {
    [this.#transport, this.#cluster, this.#plan] = [transport, cluster, plan];
  }

  result() {
    const sum = (counts) => counts.reduce((one, other) => one + other, 0);
    const { emitted, received, requests, operations, departures } = this.#counts;
    return {
      emitted: emitted + sum(this.#members.map(({ sender }) => sender?.started ?? 0)),
      received: received + sum(this.#members.map(({ receiver }) => receiver.count)),
      requests: requests + (this.#requests?.count ?? 0),
      operations,
      departures,
      servers: this.#members.length,
      problems: this.#problems.list,
      seconds: this.#problems.seconds,
    };
  }

  async run() {
    await this.#run().catch((error) => this.#problems.add(`the run has ended early: ${error.stack}`));
    await this.#requests?.pause();
  }

  /** Stops everything; whatever a server has printed is a problem. */
  async end() {
    await this.#cluster.stop();
    this.#cluster.complaints().forEach((complaint) => this.#problems.add(`a server printed: ${complaint}`));
    return this.result();
  }

  async #run() {
    for (const place of NODES) await this.#enter(place);
    await this.#becomeStable();
    do {
      await this.#operate();
      await this.#depart(...DEPARTURES[this.#counts.departures % DEPARTURES.length]);
    } while (this.#problems.seconds * 1000 < this.#plan.milliseconds);
    await this.#operate();
    await this.#holdStill();
    await Promise.all(this.#members.map(({ sender }) => sender.stop()));
    await this.#drain();
    for (const member of this.#members) await this.#assertUntroubled(member);
  }

  /** All operations in both directions, at least once. */
  async #operate() {
    const until = Date.now() + this.#plan.untilDeparture;
    do {
      const lasting = this.#members.map(({ client }) => client);
      this.#counts.operations += await runOperations(this.#transport, this.#cluster, lasting, this.#problems);
      lasting.forEach((client) => client.forget());
    } while (Date.now() < until);
  }

  /** A node leaves, the others go on, it comes back. */
  async #depart(place, signal) {
    this.#counts.departures += 1;
    await this.#holdStill();
    await this.#leave(place, signal);
    await this.#becomeStable();
    await after(this.#plan.untilReturn);
    await this.#holdStill();
    await this.#cluster.startProgram(place);
    await this.#enter(place);
    await this.#becomeStable();
  }

  async #leave(place, signal) {
    const member = this.#members.find(({ client }) => client.node === place);
    await member.sender.stop();
    await this.#drain();
    await this.#assertUntroubled(member);
    this.#members = this.#members.filter((other) => other !== member);
    this.#counts.emitted += member.sender.started;
    this.#counts.received += member.receiver.count;
    member.client.close();
    const status = await this.#cluster.stopProgram(place, signal);
    if (signal === "SIGTERM" && status !== 0) this.#problems.add(`node ${place} ended with ${status}`);
  }

  /** A client of a node that has just started; it emits when it hears all others, and they it. */
  async #enter(place) {
    const client = await this.#cluster.connect(place, { namespace: NAMESPACE });
    await client.op("join", { rooms: [ROOM] });
    // The Node.js adapter fetches what is large or binary from a table, and does not wait for it.
    const wholeOrder = this.#transport.name !== "postgres" || place === RUST;
    answerRequests(client);
    const receiver = new Receiver(client, { wholeOrder }, this.#problems);
    this.#members.push({ client, receiver });
  }

  /** Waits until every node counts all of them, and goes on with what needs that. */
  async #becomeStable() {
    const places = this.#members.map(({ client }) => client.node);
    await this.#cluster.counts(places, STABLE);
    const clients = this.#members.map(({ client }) => client);
    for (const client of clients) await client.until("serverCount", {}, ({ count }) => count === places.length, STABLE);
    for (const member of this.#members) if (!member.sender) this.#start(member);
    for (const client of clients.filter(({ node }) => node !== RUST)) await client.op("watchServers");
    this.#counts.requests += this.#requests?.count ?? 0;
    this.#requests = new Requests(clients, (what) => this.#cluster.name(what), this.#problems);
    this.#requests.resume(REQUESTS);
  }

  #start(member) {
    member.receiver.expect(this.#members.map(({ sender }) => sender).filter(Boolean));
    member.sender = new Sender(member.client, this.#cluster.name(`node ${member.client.node}`), this.#plan.perSecond);
  }

  /** Ends what needs an unchanging number of nodes: that number was right all the time. */
  async #holdStill() {
    await this.#requests.pause();
    for (const { client } of this.#members.filter(({ client }) => client.node !== RUST)) {
      const { seen } = await client.op("seenServers");
      const wrong = Object.entries(seen).filter(([, counts]) => counts.some((count) => count !== this.#members.length));
      if (wrong.length > 0) this.#problems.add(`node ${client.node} counted ${JSON.stringify(wrong)} servers instead of ${this.#members.length}`);
    }
  }

  async #drain() {
    const senders = this.#members.map(({ sender }) => sender);
    await drain(senders, this.#members.map(({ receiver }) => receiver), STABLE);
  }

  /** A Rust node says itself what has gone wrong. */
  async #assertUntroubled({ client }) {
    if (!client.socket.connected) return this.#problems.add(`the client of node ${client.node} was disconnected`);
    if (client.node !== RUST) return;
    const main = await this.#cluster.connect(RUST);
    for (const asked of [client, main]) {
      const wrong = mishaps((await asked.op("counters")).counters, [...MISHAPS, "requests_timed_out", "requests_partial"]);
      if (wrong.length > 0) this.#problems.add(`the Rust node counts ${JSON.stringify(wrong)}`);
    }
    main.close();
  }
}

/** Milliseconds in which a cluster settles, on a slow machine too: a server that was killed is missed after 10 s. */
const STABLE = 120_000;
/** Per second. */
const REQUESTS = 4;
