import assert from "node:assert/strict";
import { comparable } from "../../cases/payloads.js";
import { settled } from "../../client.js";
import { joined } from "./rooms.js";

/** Server-side events: `notice` is passed on by each server that hears it to its clients, `question` is answered, `never` is not. */
export const serverCells = [
  {
    name: "serverSideEmit",
    async run(t) {
      const word = t.name("word");
      await t.a.op("serverSideEmit", { event: "notice", args: [word, { list: [1, null, "é"] }] });
      for (const client of [t.b, t.c]) assert.deepEqual(await client.next("notice"), [word, { list: [1, null, "é"] }]);
      await settled(t.a, t.everybody);
      assert.deepEqual([t.a, t.a2, t.b, t.c].map((client) => client.all("notice").length), [0, 0, 1, 1]);
    },
  },
  {
    name: "serverSideEmit with binary",
    async run(t) {
      await t.a.op("serverSideEmit", { event: "notice", args: [{ bytes: Buffer.from("ab") }] });
      for (const client of t.others) assert.deepEqual(comparable(await client.next("notice")), [{ bytes: { bytes: "6162" } }]);
    },
  },
  {
    name: "serverSideEmit with answers",
    async run(t) {
      const { servers } = await t.a.op("serverSideEmitWithAck", { event: "question", args: [1, { two: "three" }] });
      const expected = [t.places.far, t.places.third].map((place) => [place, [1, { two: "three" }]]);
      assert.deepEqual(servers.sort(([one], [other]) => one - other), expected.sort(([one], [other]) => one - other));
    },
  },
  {
    name: "serverSideEmit, a server does not answer",
    async run(t) {
      const { servers, missing } = await t.a.op("serverSideEmitWithAck", { event: "never", select: { timeout: 300 } });
      assert.deepEqual(servers, []);
      assert.ok(missing > 0, "nobody is missing");
    },
  },
  {
    name: "number of servers",
    async run(t) {
      assert.equal((await t.a.op("serverCount")).count, 3);
    },
  },
  {
    name: "all rooms",
    async run(t) {
      const [one, two] = [await joined(t, [t.b]), await joined(t, [t.c])];
      const { rooms } = await t.a.op("allRooms");
      for (const room of [one, two, ...t.everybody.map(({ id }) => id)]) assert.ok(rooms.includes(room), `${room} in ${rooms}`);
    },
  },
];
