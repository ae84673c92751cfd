import assert from "node:assert/strict";
import { assertReached, settled } from "../../client.js";
import { joined } from "./rooms.js";

export const broadcastCells = [
  {
    name: "emit to all",
    async run(t) {
      const event = t.name("all");
      await t.a.emit({}, event, 1, "two");
      await assertReached(t.a, event, t.everybody, t.everybody);
      for (const client of t.everybody) assert.deepEqual(client.all(event), [[1, "two"]]);
    },
  },
  {
    name: "emit to a room",
    async run(t) {
      const room = await joined(t, [t.a2, t.b, t.c]);
      await t.a.emit({ to: [room] }, room);
      await assertReached(t.a, room, [t.a2, t.b, t.c], t.everybody);
      await t.b.op("leave", { rooms: [room] });
      t.everybody.forEach((client) => client.forget());
      await t.a.emit({ to: [room] }, room);
      await assertReached(t.a, room, [t.a2, t.c], t.everybody);
    },
  },
  {
    name: "emit to several rooms, each socket once",
    async run(t) {
      const one = await joined(t, [t.b, t.a2]);
      const two = await joined(t, [t.b, t.c]);
      await t.a.emit({ to: [one, two] }, one);
      await assertReached(t.a, one, [t.a2, t.b, t.c], t.everybody);
    },
  },
  {
    name: "emit to rooms of every kind of name",
    async run(t) {
      const names = ["*", "a#b", "a.b > c", "grüße 😀", "x".repeat(200)].map((name) => t.name(name));
      // 20 characters are as many as a socket id has.
      for (const room of ["", ...names, t.name("twenty").padEnd(20, ".")]) {
        for (const client of [t.b, t.c]) await client.op("join", { rooms: [room] });
        await t.a.emit({ to: [room] }, `to ${room}`);
        await assertReached(t.a, `to ${room}`, [t.b, t.c], t.everybody);
        for (const client of [t.b, t.c]) await client.op("leave", { rooms: [room] });
      }
    },
  },
  {
    name: "emit except rooms",
    async run(t) {
      const [room, except] = [await joined(t, [t.a2, t.b, t.c]), await joined(t, [t.b])];
      await t.a.emit({ except: [except] }, "all but one", room);
      await assertReached(t.a, "all but one", [t.a, t.a2, t.c], t.everybody);
      await t.a.emit({ to: [room], except: [except] }, "room but one");
      await assertReached(t.a, "room but one", [t.a2, t.c], t.everybody);
    },
  },
  {
    name: "emit to a socket id",
    async run(t) {
      for (const target of [t.a2, t.b, t.c]) {
        const event = t.name("id");
        await t.a.emit({ to: [target.id] }, event);
        await assertReached(t.a, event, [target], t.everybody);
      }
    },
  },
  {
    name: "emit except a socket id",
    async run(t) {
      const event = t.name("id");
      await t.a.emit({ except: [t.b.id] }, event);
      await assertReached(t.a, event, [t.a, t.a2, t.c], t.everybody);
    },
  },
  {
    name: "rooms that are none, such as undefined",
    async run(t) {
      const room = await joined(t, [t.a2, t.b, t.c]);
      await t.a.emit({ to: [null] }, "nobody");
      await t.a.emit({ to: [null, room] }, "room");
      await t.a.emit({ except: [null] }, "everybody");
      await assertReached(t.a, "nobody", [], t.everybody);
      await assertReached(t.a, "room", [t.a2, t.b, t.c], t.everybody);
      await assertReached(t.a, "everybody", t.everybody, t.everybody);
      // Every server answers, or the caller would wait until it gives up.
      assert.deepEqual((await t.a.op("fetchSockets", { select: { to: [null] } })).sockets, []);
      assert.equal((await t.a.op("fetchSockets", { select: { to: [null, room] } })).sockets.length, 3);
      const { answers, silent } = await t.a.op("emitWithAck", { select: { to: [null] }, event: "nobody" });
      assert.deepEqual([answers, silent], [[], []]);
    },
  },
  {
    name: "broadcast of a socket",
    async run(t) {
      const room = await joined(t, [t.a, t.b, t.c]);
      await t.a.emit({ fromSocket: true }, "others");
      await assertReached(t.a, "others", [t.a2, t.b, t.c], t.everybody);
      await t.a.emit({ fromSocket: true, to: [room] }, "others in the room");
      await assertReached(t.a, "others in the room", [t.b, t.c], t.everybody);
    },
  },
  {
    name: "volatile emit",
    async run(t) {
      const event = t.name("volatile");
      await t.a.emit({ volatile: true }, event, { at: "once" });
      await assertReached(t.a, event, t.everybody, t.everybody);
    },
  },
  {
    name: "local emit",
    async run(t) {
      const event = t.name("local");
      await t.a.emit({ local: true }, event);
      await assertReached(t.a, event, [t.a, t.a2], t.everybody);
    },
  },
  { name: "order of one sender", run: (t) => assertInOrder(t, 1) },
  { name: "order of one sender, small and large messages", run: (t) => assertInOrder(t, 20_000) },
];

async function assertInOrder(t, largest) {
  const [event, room] = [t.name("order"), await joined(t, [t.c, t.b])];
  const count = 300;
  await t.a.op("emitSeries", { select: { to: [room] }, event, args: [count, largest] });
  await settled(t.a, t.everybody);
  const numbers = Array.from({ length: count }, (_, number) => number);
  for (const member of [t.b, t.c]) assert.deepEqual(member.all(event).map(([number]) => number), numbers);
}
