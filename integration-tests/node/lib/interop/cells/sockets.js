import assert from "node:assert/strict";
import { comparable } from "../../cases/payloads.js";
import { assertReached } from "../../client.js";
import { NODE_1, NODE_ADMIN, RUST } from "../cluster.js";
import { enteredFor, inRooms, joined } from "./rooms.js";

export const socketCells = [
  {
    name: "fetchSockets: ids",
    async run(t) {
      const room = await joined(t, [t.a2, t.b, t.c]);
      const except = await joined(t, [t.c]);
      const ids = async (select) => (await t.a.op("fetchSockets", { select })).sockets.map(({ id }) => id).sort();
      // Watchers of the run are sockets as well.
      for (const { id } of t.everybody) assert.ok((await ids({})).includes(id));
      assert.deepEqual(await ids({ to: [room] }), idsOf([t.a2, t.b, t.c]));
      assert.deepEqual(await ids({ to: [room], except: [except] }), idsOf([t.a2, t.b]));
      assert.deepEqual(await ids({ to: [t.b.id] }), [t.b.id]);
      assert.deepEqual(await ids({ to: [room], local: true }), [t.a2.id]);
    },
  },
  {
    name: "fetchSockets: rooms and data",
    async run(t) {
      const room = await joined(t, [t.a2, t.b, t.c]);
      for (const client of [t.a2, t.b, t.c]) await client.op("setData", { data: { name: "zoë", list: [1, 2.5, null], of: client.node } });
      const { described } = await t.a.op("describeSockets", { select: { to: [room] } });
      assert.equal(described.length, 3);
      for (const client of [t.a2, t.b, t.c]) {
        const socket = described.find(({ id }) => id === client.id);
        assert.ok(socket.rooms.includes(room) && socket.rooms.includes(client.id), JSON.stringify(socket.rooms));
        assert.deepEqual(socket.data, { name: "zoë", list: [1, 2.5, null], of: client.node });
      }
    },
  },
  {
    name: "fetchSockets: handshake",
    async run(t) {
      const guest = await t.cluster.connect(t.places.far, { auth: { token: "abc" }, query: { from: "here" } });
      const { described } = await t.a.op("describeSockets", { select: { to: [guest.id] } });
      const [{ handshake }] = described;
      assert.deepEqual(handshake.auth, { token: "abc" });
      assert.equal(handshake.query.from, "here");
      assert.equal(handshake.query.EIO, "4");
      assert.equal(handshake.headers.upgrade, "websocket");
      assert.match(handshake.url, /^\/socket\.io\/\?/);
      assert.match(handshake.address, /127\.0\.0\.1$/);
      assert.match(handshake.time, /^\w{3} \w{3} \d\d \d{4} \d\d:\d\d:\d\d GMT/);
      assert.deepEqual([typeof handshake.issued, handshake.secure, handshake.xdomain], ["number", false, false]);
      guest.close();
    },
  },
  {
    name: "fetchSockets: a handshake that no application has set, instrument()",
    async run(t) {
      // In the second cluster: the nodes of the first would count a fourth server.
      const cluster = await t.recovering();
      await cluster.startOnce(NODE_ADMIN);
      const guests = await Promise.all([RUST, NODE_1].map((place) => cluster.connect(place, { query: { handshake: "none" } })));
      const watched = await socketsOnAdminPage(cluster);
      const caller = await cluster.connect(t.places.near);
      const { described } = await caller.op("describeSockets");
      for (const { id } of guests) {
        const { handshake } = described.find((socket) => socket.id === id);
        assert.deepEqual(Object.keys(handshake).sort(), HANDSHAKE_FIELDS);
        const shown = watched.find((socket) => socket.id === id);
        for (const { headers, query, issued, time, url } of [handshake, shown.handshake]) {
          assert.deepEqual([headers.upgrade, query.EIO, query.handshake], ["websocket", "4", "none"]);
          assert.ok(Math.abs(issued - Date.now()) < 60_000 && Math.abs(Date.parse(time) - Date.now()) < 60_000, `${issued} ${time}`);
          assert.match(url, /^\/socket\.io\/\?/);
        }
      }
      [...guests, caller].forEach((client) => client.close());
    },
  },
  {
    name: "a fetched socket: emit",
    async run(t) {
      for (const target of [t.b, t.c, t.a2]) {
        const event = t.name("remote");
        await t.a.op("remoteEmit", { id: target.id, event, args: [{ bytes: Buffer.from("xy") }, 2] });
        await assertReached(t.a, event, [target], t.everybody);
        assert.deepEqual(comparable(target.all(event)), [[{ bytes: { bytes: "7879" } }, 2]]);
      }
    },
  },
  {
    name: "a fetched socket: acknowledged emit",
    async run(t) {
      const event = t.name("remote");
      t.b.answer(event, { heard: Buffer.from("it") });
      const { answers } = await t.a.op("remoteEmitWithAck", { id: t.b.id, event, args: [1, 2] });
      assert.deepEqual(answers.map(([, { heard }]) => comparable(heard)), [{ bytes: "6974" }]);
      assert.deepEqual(t.b.all(event), [[1, 2]]);
    },
  },
  {
    name: "a fetched socket: join and leave",
    async run(t) {
      const rooms = [t.name("room"), t.name("room")];
      await t.a.op("remoteJoin", { id: t.b.id, rooms });
      await inRooms(t.b, rooms, rooms);
      assert.deepEqual((await t.a.op("remoteRooms", { id: t.b.id })).rooms.filter((room) => rooms.includes(room)), [...rooms].sort());
      await t.a.op("remoteLeave", { id: t.b.id, rooms: [rooms[0]] });
      await inRooms(t.b, rooms, [rooms[1]]);
    },
  },
  {
    name: "a fetched socket: disconnect",
    async run(t) {
      const guest = await t.cluster.connect(t.places.far);
      await t.a.op("remoteDisconnect", { id: guest.id });
      assert.equal(await guest.ended(), "io server disconnect");
      assert.equal(t.b.socket.connected, true);
    },
  },
  {
    name: "socketsJoin",
    async run(t) {
      const [room, inner] = [await joined(t, [t.a2, t.b, t.c]), t.name("inner")];
      const except = await joined(t, [t.c]);
      await t.a.op("socketsJoin", { select: { to: [room], except: [except] }, rooms: [inner] });
      for (const member of [t.a2, t.b]) await inRooms(member, [inner], [inner]);
      await inRooms(t.c, [inner], []);
      await enteredFor([inner], [t.a2, t.b]);
      await t.a.emit({ to: [inner] }, inner);
      await assertReached(t.a, inner, [t.a2, t.b], t.everybody);
    },
  },
  {
    name: "socketsLeave",
    async run(t) {
      const [room, stay] = [await joined(t, [t.a2, t.b, t.c]), await joined(t, [t.c])];
      await t.a.op("socketsLeave", { select: { to: [room], except: [stay] }, rooms: [room] });
      for (const member of [t.a2, t.b]) await inRooms(member, [room], []);
      await t.a.emit({ to: [room] }, room);
      await assertReached(t.a, room, [t.c], t.everybody);
    },
  },
  {
    name: "disconnectSockets",
    async run(t) {
      const guests = await Promise.all([t.places.near, t.places.far, t.places.third].map((place) => t.cluster.connect(place)));
      const room = await joined(t, guests);
      await t.a.op("disconnectSockets", { select: { to: [room] } });
      for (const guest of guests) assert.equal(await guest.ended(), "io server disconnect");
      assert.ok(t.everybody.every(({ socket }) => socket.connected));
    },
  },
  {
    name: "disconnectSockets, closing connections",
    async run(t) {
      const guests = await Promise.all([t.places.far, t.places.third].map((place) => t.cluster.connect(place)));
      const room = await joined(t, guests);
      // The same connection carries another namespace, which ends with it.
      const others = guests.map(({ socket }) => socket.io.socket("/other"));
      await Promise.all(others.map((other) => new Promise((resolve) => other.once("ready", resolve))));
      const closed = others.map((other) => new Promise((resolve) => other.once("disconnect", resolve)));
      await t.a.op("closeConnections", { select: { to: [room] }, close: true });
      for (const guest of guests) await guest.ended();
      await Promise.all(closed);
    },
  },
];

const HANDSHAKE_FIELDS = ["address", "auth", "headers", "issued", "query", "secure", "time", "url", "xdomain"];

/** What the instrumented server, which must know all others, sends to the official page first. */
async function socketsOnAdminPage(cluster) {
  const client = await cluster.connect(NODE_ADMIN);
  await client.until("serverCount", {}, ({ count }) => count === 4);
  const page = client.socket.io.socket("/admin");
  try {
    return await new Promise((resolve, reject) => {
      page.once("all_sockets", resolve);
      client.socket.once("disconnect", (reason) => reject(new Error(`the instrumented server is gone: ${reason}`)));
    });
  } finally {
    client.close();
  }
}

function idsOf(clients) {
  return clients.map(({ id }) => id).sort();
}
