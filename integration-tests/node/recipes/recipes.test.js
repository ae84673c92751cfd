import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { connect, createServer } from "node:net";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { start } from "../lib/program.js";

const PATIENCE = 20_000;
let broker;

before(async () => {
  broker = await start(process.env.TEST_BROKER, ["redis"], (line) => line);
});
after(() => broker?.stop());

test("shutdown: new clients go to another node, those it has follow, and what they say meanwhile is heard", async (t) => {
  const [first, second] = [await serve(t, "shutdown"), await serve(t, "shutdown")];
  const ports = [first, second].map(({ addresses: [address] }) => Number(new URL(address).port));
  const entrance = await balancer(t, ports);
  const observer = await client(t, second.addresses[0]);
  const said = [];
  observer.on("said", (text) => said.push(text));
  // Over the balancer, so on the first node; it comes back by itself.
  const moving = await client(t, entrance, { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 });
  moving.emit("say", "before");
  await until(() => said.includes("before"));

  const back = once(moving, "ready");
  const ended = first.stop("SIGTERM");
  await until(() => first.lines.includes("stopped listening"));
  moving.emit("say", "while it ends");
  await assert.rejects(fetch(`${first.addresses[0]}/ready`));
  const arrived = await client(t, entrance);
  arrived.emit("say", "from a new client");
  assert.equal(await ended, 0);
  assert.ok(first.lines.includes("left the cluster"));
  await back;
  moving.emit("say", "after");
  await until(() => said.includes("after"));
  for (const text of ["while it ends", "from a new client"]) assert.equal(said.filter((other) => other === text).length, 1, text);
});

test("online: everybody once, with their data, from any node", async (t) => {
  const nodes = [await serve(t, "online"), await serve(t, "online")];
  const [ann, bob] = [{ user: "1", name: "Ann" }, { user: "2", name: "Bob" }];
  const clients = [];
  for (const [node, auth] of [[0, ann], [1, ann], [1, bob]]) clients.push(await client(t, nodes[node].addresses[0], { auth }));
  for (const { addresses } of nodes) await until(async () => same(await online(addresses[0]), [ann, bob]));
  clients.at(-1).close();
  await until(async () => same(await online(nodes[0].addresses[0]), [ann]));
});

test("kick: out on every node, and not in again", async (t) => {
  const nodes = [await serve(t, "kick"), await serve(t, "kick")];
  const sockets = [];
  for (const { addresses } of nodes) sockets.push(await client(t, addresses[0], { auth: { user: "mallory" } }));
  const other = await client(t, nodes[1].addresses[0], { auth: { user: "ann" } });
  const events = sockets.map((socket) => Promise.all([once(socket, "kicked"), once(socket, "disconnect")]));
  const { status } = await fetch(`${nodes[0].addresses[0]}/kick/mallory`, { method: "POST" });
  assert.equal(status, 204);
  for (const event of events) assert.deepEqual((await event)[1][0], "io server disconnect");
  for (const socket of sockets) {
    const refused = once(socket, "connect_error");
    socket.connect();
    const [error] = await refused;
    assert.equal(error.message, "you are banned");
  }
  assert.ok(other.connected);
});

test("cron: a program that ends at once has emitted everything, in order", async (t) => {
  const node = await serve(t, "shutdown");
  const observer = await client(t, node.addresses[0]);
  const said = [];
  observer.on("said", (text) => said.push(text));
  await promisify(execFile)(process.env.RECIPES, ["cron", "--broker", broker.result]);
  await until(() => said.length >= 3);
  assert.deepEqual(said, ["report 1", "report 2", "report 3"]);
});

test("two servers in one process: each reaches the clients of the other", async (t) => {
  const { addresses } = await serve(t, "two-servers", { addresses: 2, options: [] });
  const clients = [await client(t, addresses[0]), await client(t, addresses[1])];
  const heard = Promise.all(clients.map((socket) => once(socket, "said")));
  const { status } = await fetch(`${addresses[1]}/announce`, { method: "POST", body: "closing at ten" });
  assert.equal(status, 204);
  assert.deepEqual(await heard, [["closing at ten"], ["closing at ten"]]);
});

test("missed: a client that comes back to another node gets what it has missed, once and in order", async (t) => {
  const options = ["--broker", `${broker.result}?mode=streams`];
  const nodes = [await serve(t, "missed", { options }), await serve(t, "missed", { options })];
  const [first, second] = nodes.map(({ addresses: [address] }) => address);
  const publish = async (text) => assert.equal((await fetch(`${second}/news`, { method: "POST", body: text })).status, 204);
  const source = await readFile(new URL("../../../crates/trunkline/examples/chat/page/trunkline-client.js", import.meta.url));
  const { connectToCluster } = await import(`data:text/javascript,${encodeURIComponent(source)}`);
  const reader = connectToCluster(io, { nodes: [first], socket: { forceNew: true, reconnectionDelayMax: 200 } });
  t.after(() => reader.close());
  const [news, missed] = [[], []];
  reader.on("news", (...args) => news.push(args));
  reader.on("missed", () => missed.push(true));
  await until(() => reader.ready);
  await publish("1");
  await until(() => news.length === 1);

  await nodes[0].stop();
  await until(() => !reader.ready);
  for (const text of ["2", "3", "4"]) await publish(text);
  reader.nodes = [first, second];
  await until(() => news.length >= 4);
  await publish("5");
  await until(() => news.length >= 5);
  assert.deepEqual(news, [["1"], ["2"], ["3"], ["4"], ["5"]]);
  assert.deepEqual(missed, []);
});

test("from Node.js: a Rust node joins a running cluster, and the last Node.js server leaves it", async (t) => {
  const http = createHttpServer();
  const redis = [createClient({ url: broker.result }), createClient({ url: broker.result })];
  for (const connection of redis) connection.on("error", () => {});
  await Promise.all(redis.map((connection) => connection.connect()));
  const old = new Server(http, { adapter: createAdapter(...redis) });
  let running = true;
  const stop = async () => {
    if (!running) return;
    running = false;
    await old.close();
    await Promise.all(redis.map((connection) => connection.close()));
  };
  t.after(stop);
  old.on("connection", (socket) => {
    socket.data = socket.handshake.auth;
    socket.emit("ready");
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const [ann, bob] = [{ user: "1", name: "Ann" }, { user: "2", name: "Bob" }];
  await client(t, `http://127.0.0.1:${http.address().port}`, { auth: ann });

  const {
    addresses: [address],
  } = await serve(t, "online");
  const newcomer = await client(t, address, { auth: bob });
  await until(async () => same(await online(address), [ann, bob]));
  const heard = once(newcomer, "said");
  old.emit("said", "from Node.js");
  assert.deepEqual(await heard, ["from Node.js"]);
  await stop();
  await until(async () => same(await online(address), [bob]));
});

/** Starts a recipe over the broker. `lines` is what it has printed so far. */
async function serve(t, recipe, { addresses = 1, options = ["--broker", broker.result] } = {}) {
  const lines = [];
  const program = await start(process.env.RECIPES, [recipe, ...options], (line) => {
    lines.push(line);
    const found = lines.filter((line) => line.startsWith("http://"));
    return found.length === addresses ? found : undefined;
  });
  t.after(() => program.stop("SIGKILL"));
  return { addresses: program.result, lines, stop: program.stop };
}

/** A client that its server listens to. */
async function client(t, address, options = {}) {
  const socket = io(address, { transports: ["websocket"], forceNew: true, reconnection: false, ...options });
  t.after(() => socket.close());
  await once(socket, "ready");
  return socket;
}

/** Gives each connection to the first of the servers that takes it. */
async function balancer(t, ports) {
  const open = new Set();
  const give = (incoming, [port, ...rest]) => {
    const outgoing = connect(port, "127.0.0.1");
    outgoing.once("error", () => (rest.length ? give(incoming, rest) : incoming.destroy()));
    outgoing.once("connect", () => {
      incoming.pipe(outgoing).pipe(incoming);
      outgoing.once("close", () => incoming.destroy());
      incoming.once("close", () => outgoing.destroy());
    });
  };
  const server = createServer((incoming) => {
    open.add(incoming);
    incoming.on("error", () => {});
    give(incoming, ports);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    open.forEach((socket) => socket.destroy());
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

async function online(address) {
  const response = await fetch(`${address}/online`);
  return response.ok ? response.json() : undefined;
}

function same(a, b) {
  return JSON.stringify(a) === JSON.stringify(b);
}

async function until(condition) {
  const end = Date.now() + PATIENCE;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `it never became true: ${condition}`);
    await sleep(20);
  }
}
