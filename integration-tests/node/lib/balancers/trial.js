// Clients behind one balancer while a node is added, drained, stopped and killed.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as after } from "node:timers/promises";
import { Balancer } from "./balancer.js";
import { Cluster } from "./cluster.js";
import { handshake, throughProxyProtocol } from "./handshake.js";
import { Member } from "./member.js";

/**
 * @param kind of kinds.js
 * @param plan.polling number of clients that only poll; of the other kinds there are a fifth as many each
 * @param plan.calm milliseconds before anything happens, and between one step and the next
 * @param plan.beat milliseconds between two messages to all clients
 * @param plan.late milliseconds after which what is waited for will not come any more
 * @returns what was counted
 */
export async function trial(kind, plan, report = () => {}) {
  const trial = new Trial(kind, plan, report);
  try {
    return await trial.run();
  } finally {
    await trial.stop();
  }
}

class Trial {
  #members = [];
  #gone = [];
  #step = "connect";
  #ticking;

  constructor(kind, plan, report) {
    Object.assign(this, { kind, plan, report });
  }

  async run() {
    this.cluster = await Cluster.start();
    const { a, b, c } = this.cluster.ports;
    this.balancer = await Balancer.start(this.kind, { a, b, c });
    await this.#headers();
    await this.#connect();
    await this.#during("calm", () => this.#places());
    await this.#during("add", () => this.#addNode());
    await this.#during("drain", () => this.#drainNode());
    await this.#during("stop", () => this.#endNode("c", "SIGTERM"));
    await this.#during("kill", () => this.#endNode("b", "SIGKILL"));
    await this.#cookieOfTheGone();
    await this.#delivered();
    return this.#counts();
  }

  async stop() {
    this.#ticking?.clear();
    this.#members.forEach((member) => member.close());
    // Both at once: Apache waits for requests that the nodes have not answered.
    await Promise.all([this.balancer?.stop(), this.cluster?.stop()]);
  }

  /** What the nodes are told of a client, and what clients are not told of the nodes. */
  async #headers() {
    const { url, ports } = this.balancer;
    const faked = await handshake(url, { headers: { "x-forwarded-for": "203.0.113.9" } });
    assert.equal(await this.#forwardedFor(faked.id), "127.0.0.1", "the address that a client invents is not passed on");
    const behind = await throughProxyProtocol(ports.proxy, "198.51.100.7");
    assert.equal(await this.#forwardedFor(behind.id), "198.51.100.7", "the address in a PROXY header is passed on");
    behind.close();
    for (const path of ["/metrics", "/readyz", "/livez"]) {
      assert.equal((await fetch(url + path)).status, 404, `${path} is not for everyone`);
    }
  }

  async #forwardedFor(id) {
    const { described } = await this.cluster.op("describeSockets", { select: { to: [id] } });
    const headers = described.find((socket) => socket.id === id).handshake.headers;
    return headers["x-forwarded-for"];
  }

  async #connect() {
    const { polling } = this.plan;
    const some = Math.ceil(polling / 5);
    const tenant = (index) => ({ affinity: `tenant-${index % 6}` });
    this.#join("polling, cookie", Math.ceil(polling / 2), { transports: ["polling"], cookies: true });
    this.#join("polling, client", Math.floor(polling / 2), { transports: ["polling"], query: () => ({ client: randomUUID() }) });
    this.#join("upgrade, cookie", some, { transports: ["polling", "websocket"], cookies: true });
    this.#join("upgrade, client", some, { transports: ["polling", "websocket"], query: () => ({ client: randomUUID() }) });
    this.#join("websocket", some, { transports: ["websocket"] });
    this.#join("websocket, affinity", some, { transports: ["websocket"], query: tenant });
    this.#join("upgrade, affinity", some, { transports: ["polling", "websocket"], query: (index) => ({ ...tenant(index), client: randomUUID() }) });
    await this.#until("every client is connected", () => this.#members.every(isWhole));
    this.#ticking = ticking(() => this.cluster.tick(), this.plan.beat);
  }

  #join(name, count, { query = () => ({}), ...options }) {
    for (let index = 0; index < count; index += 1) {
      const group = { name, ...options, query: query(index) };
      this.#members.push(new Member(this.balancer.url, group, () => this.#step));
    }
  }

  async #during(step, act) {
    this.#step = step;
    const began = performance.now();
    await act();
    // What has been done must not cost a connection later, either: time-outs, checks and the next polls come to pass.
    await after(this.plan.calm);
    await this.#until(`after '${step}', every client is connected`, () => this.#members.every(isWhole));
    this.#noWrongLoss();
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    this.report(`${step}: ${seconds} s, ${this.#lossesOf(step).length} connections lost, ${this.#spread()}`);
  }

  async #places() {
    await this.#cookieOfB();
    for (const node of ["a", "b", "c"]) assert.ok(this.#on(node).length > 0, `node ${node} has clients: ${this.#spread()}`);
    const nodes = new Map();
    for (const { group, node } of this.#members.filter(({ group }) => group.query.affinity)) {
      nodes.set(group.query.affinity, (nodes.get(group.query.affinity) ?? new Set()).add(node));
    }
    for (const [tenant, places] of nodes) assert.equal(places.size, 1, `${tenant} is on one node, not on ${[...places]}`);
  }

  /** Clients that come from now on also come to a fourth node; those that are there stay. */
  async #addNode() {
    await this.cluster.add("d");
    await this.balancer.add("d", this.#nodes());
    await this.#until("newcomers are on node d", async () => (await this.#newcomers()).has("d"));
  }

  /** Clients that come from now on do not come to node c; those that are there stay. */
  async #drainNode() {
    const before = this.#on("c").length;
    await this.balancer.drain("c", this.#nodes());
    await this.#until("no newcomer is on node c", async () => !(await this.#newcomers()).has("c"));
    assert.ok(!(await this.#newcomers()).has("c"), "no newcomer is on the drained node");
    const kept = this.#on("c").length;
    if (this.kind.remembers) assert.equal(kept, before, "the clients of the drained node stay there");
    assert.ok(kept > 0, "clients of the drained node stay there");
  }

  async #endNode(node, signal) {
    this.#gone.push(node);
    const lost = this.#on(node).length;
    await this.cluster.end(node, signal);
    await this.#until(`the clients of ${node} are on other nodes`, () => this.#members.every((member) => isWhole(member) && member.node !== node));
    assert.ok(this.#lossesOf(this.#step).length >= lost, "they have lost their connections");
  }

  /** The second page of a browser that is on node b comes there, too. */
  async #cookieOfB() {
    this.cookie = this.#on("b").find(({ cookie }) => cookie)?.cookie;
    assert.ok(this.cookie?.startsWith("node="), "a client of node b has a cookie");
    const second = await handshake(this.balancer.url, { headers: { cookie: this.cookie } });
    assert.equal(second.node, "b", "the second page of a browser comes to the node of the first");
  }

  /** That browser returns when its node is gone. */
  async #cookieOfTheGone() {
    const { node, cookie } = await handshake(this.balancer.url, { headers: { cookie: this.cookie } });
    assert.notEqual(node, "b");
    assert.notEqual(cookie, "", "the cookie of a node that is gone is replaced");
  }

  /** What was sent while a client was connected all the time has arrived, each once and in order. */
  async #delivered() {
    this.#ticking.clear();
    const last = await this.cluster.tick();
    await this.#until("the last message has arrived everywhere", () => this.#members.every(({ ticks }) => ticks.at(-1) === last));
    for (const member of this.#members.filter(({ losses }) => losses.length === 0)) {
      const expected = Array.from({ length: last + 1 }, (_, number) => number);
      assert.deepEqual(member.ticks, expected, `${member.group.name} on ${member.node} received every message`);
    }
    for (const { ticks } of this.#members) assert.equal(new Set(ticks).size, ticks.length, "no message came twice");
  }

  /** The nodes of clients that have just come, over WebSocket and by polling. */
  async #newcomers() {
    const groups = [{ transports: ["websocket"] }, { transports: ["polling"], cookies: true }, { transports: ["websocket"], keyed: true }];
    const members = Array.from({ length: 36 }, (_, index) => {
      const { keyed, ...options } = groups[index % 3];
      return new Member(this.balancer.url, { name: "newcomer", query: keyed ? { client: randomUUID() } : {}, ...options }, () => this.#step);
    });
    try {
      await this.#until("newcomers are connected", () => members.every(({ isConnected }) => isConnected));
      return new Set(members.map(({ node }) => node));
    } finally {
      members.forEach((member) => member.close());
    }
  }

  /** A connection may be lost with its node, and by a key that has moved where the balancer remembers nothing. */
  #noWrongLoss() {
    const { remembers, drainsAtOnce, hasFixedRing } = this.kind;
    const mayMove = ({ group }, { step }) =>
      group.transports[0] === "polling" &&
      ((!remembers && group.query.client && (hasFixedRing || ["add", "drain"].includes(step))) || (drainsAtOnce && step === "drain"));
    const wrong = this.#members.flatMap((member) =>
      member.losses
        .filter((loss) => !this.#belongsToTheGone(loss) && !mayMove(member, loss))
        .map(({ at, ...loss }) => ({ group: member.group.name, ...loss })),
    );
    assert.deepEqual(wrong, [], "no connection was lost but those of nodes that are gone");
    const late = this.#members.flatMap(({ losses }) => losses).filter(({ attempts }) => attempts > 2);
    assert.deepEqual(late, [], "every client was back with its first or second attempt");
  }

  /** Also when it was lost before the node greeted: then it is one of a client that was looking for another node. */
  #belongsToTheGone({ step, node }) {
    return this.#gone.includes(node) || (node === "" && ["stop", "kill"].includes(step));
  }

  #nodes() {
    return Object.fromEntries(Object.entries(this.cluster.ports).filter(([node]) => !this.#gone.includes(node)));
  }

  #on(node) {
    return this.#members.filter((member) => member.node === node);
  }

  #lossesOf(step) {
    return this.#members.flatMap(({ losses }) => losses).filter((loss) => loss.step === step);
  }

  #spread() {
    return ["a", "b", "c", "d"].map((node) => `${node} ${this.#on(node).length}`).join(", ");
  }

  #counts() {
    const losses = this.#members.flatMap(({ losses }) => losses);
    return {
      clients: this.#members.length,
      messages: this.#members.reduce((sum, { ticks }) => sum + ticks.length, 0),
      losses: losses.length,
      moved: losses.filter(({ step }) => ["add", "drain"].includes(step)).length,
      unknownSessions: losses.filter(({ status }) => status === 400).length,
      slowestReturn: Math.max(0, ...losses.map(({ milliseconds }) => milliseconds ?? 0)),
      mostAttempts: Math.max(0, ...losses.map(({ attempts }) => attempts)),
    };
  }

  async #until(what, holds) {
    for (const deadline = Date.now() + this.plan.late; !(await holds()); await after(50)) {
      if (Date.now() < deadline) continue;
      const missing = this.#members.filter((member) => !isWhole(member));
      const examples = missing.slice(0, 3).map(({ group, node, carrier, upgradeError, losses }) => {
        return { ...group, node, carrier, upgradeError, losses: losses.slice(-3) };
      });
      const seen = `${this.#spread()}; ${missing.length} not connected, ${JSON.stringify(examples)}`;
      throw new Error(`not so: ${what}; ${seen}; ${this.balancer.complaints.slice(-20).join("\n")}`);
    }
  }
}

/** A client is connected, and on the last of its transports. */
function isWhole(member) {
  return member.isConnected && member.carrier === member.group.transports.at(-1);
}

/** Acts again and again, each time so many milliseconds after the last has ended. */
function ticking(act, milliseconds) {
  let next;
  let stopped = false;
  const again = () => (next = setTimeout(() => act().then(() => stopped || again(), () => {}), milliseconds));
  again();
  return {
    clear() {
      stopped = true;
      clearTimeout(next);
    },
  };
}
