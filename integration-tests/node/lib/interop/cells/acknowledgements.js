import assert from "node:assert/strict";
import { comparable } from "../../cases/payloads.js";
import { joined } from "./rooms.js";

export const acknowledgementCells = [
  {
    name: "acknowledged emit to all",
    async run(t) {
      const event = t.name("question");
      for (const client of t.everybody) client.answer(event, { from: client.id, text: "grüße" });
      const { answers, silent } = await t.a.op("emitWithAck", { event, args: ["who?"] });
      assert.deepEqual(answers.map(([, { from }]) => from).sort(), t.everybody.map(({ id }) => id).sort());
      assert.deepEqual(silent, []);
      for (const client of t.everybody) assert.deepEqual(client.all(event), [["who?"]]);
    },
  },
  {
    name: "acknowledged emit to a room, to a socket id, except a room",
    async run(t) {
      const [event, room] = [t.name("question"), await joined(t, [t.b, t.c])];
      for (const client of t.everybody) client.answer(event, client.id);
      const ask = async (select) => (await t.a.op("emitWithAck", { event, select })).answers.map(([, id]) => id).sort();
      assert.deepEqual(await ask({ to: [room] }), [t.b.id, t.c.id].sort());
      assert.deepEqual(await ask({ to: [t.b.id] }), [t.b.id]);
      assert.deepEqual(await ask({ except: [room] }), [t.a.id, t.a2.id].sort());
      assert.deepEqual(await ask({ to: [t.name("nobody")] }), []);
    },
  },
  {
    name: "binary question, binary answers",
    async run(t) {
      const [event, room] = [t.name("question"), await joined(t, [t.a2, t.b, t.c])];
      for (const client of [t.a2, t.b, t.c]) {
        client.socket.on(event, ({ data }, answer) => answer({ twice: [Buffer.concat([data, data])] }));
      }
      const { answers } = await t.a.op("emitWithAck", { select: { to: [room] }, event, args: [{ data: Buffer.from("ab") }] });
      const abab = { bytes: "61626162" };
      assert.deepEqual(answers.map(([, { twice }]) => comparable(twice)), [[abab], [abab], [abab]]);
    },
  },
  {
    name: "answers without a value",
    async run(t) {
      const [event, room] = [t.name("question"), await joined(t, [t.b, t.c])];
      for (const client of [t.b, t.c]) client.answer(event);
      const { answers, silent } = await t.a.op("emitWithAck", { select: { to: [room] }, event });
      assert.deepEqual(answers.map(([, value]) => value ?? null), [null, null]);
      assert.deepEqual(silent, []);
    },
  },
  {
    name: "a client that stays silent",
    async run(t) {
      const [event, room] = [t.name("question"), await joined(t, [t.a2, t.b, t.c])];
      t.a2.answer(event, "yes");
      t.c.answer(event, "yes");
      t.b.socket.on(event, () => {});
      const { answers, silent } = await t.a.op("emitWithAck", { select: { to: [room], timeout: 2000 }, event });
      assert.deepEqual(answers.map(([, answer]) => answer), ["yes", "yes"]);
      assert.ok(silent.length > 0, "the silent client is not reported");
      assert.ok(silent.every(([, why]) => why === "timeout"), JSON.stringify(silent));
    },
  },
];
