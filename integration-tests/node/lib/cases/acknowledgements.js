import assert from "node:assert/strict";
import { test } from "node:test";

/** @param t the cluster of cases.js */
export function acknowledgementCases(t) {
  test("a broadcast collects the answers of the clients of all nodes", async () => {
    const event = t.nodes.name("question");
    for (const client of t.everybody) client.answer(event, { from: client.id });
    const { answers, silent } = await t.a.op("emitWithAck", { event, args: ["who?"] });
    assert.deepEqual(valuesOf(answers), t.everybody.map(({ id }) => id).sort());
    assert.deepEqual(silent, []);
    for (const client of t.everybody) assert.deepEqual(client.all(event), [["who?"]]);
  });

  test("binary questions get binary answers", async () => {
    const event = t.nodes.name("question");
    for (const client of [t.b, t.c]) {
      client.socket.on(event, (data, answer) => answer({ twice: Buffer.concat([data, data]) }));
    }
    const select = { to: [await together(t, [t.b, t.c])] };
    const { answers } = await t.a.op("emitWithAck", { select, event, args: [Buffer.from("ab")] });
    assert.deepEqual(answers.map(([, { twice }]) => Buffer.from(twice).toString()), ["abab", "abab"]);
  });

  test("a client that stays silent is reported after the timeout, with the answers of the others", async () => {
    const event = t.nodes.name("question");
    t.a2.answer(event, "yes");
    t.b.answer(event, "yes");
    t.c.socket.on(event, () => {});
    const select = { to: [await together(t, [t.a2, t.b, t.c])], timeout: 500 };
    const { answers, silent } = await t.a.op("emitWithAck", { select, event });
    assert.deepEqual(answers.map(([, answer]) => answer), ["yes", "yes"]);
    assert.ok(silent.length > 0, "the silent client is not reported");
    assert.ok(silent.every(([, why]) => why === "timeout"), JSON.stringify(silent));
  });

  test("a question to a room nobody is in is answered at once", async () => {
    const { answers, silent } = await t.a.op("emitWithAck", { select: { to: [t.nodes.name("room")] }, event: "anybody?" });
    assert.deepEqual([answers, silent], [[], []]);
  });

  test("only the members of the room are asked", async () => {
    const event = t.nodes.name("question");
    for (const client of t.everybody) client.answer(event, client.node);
    const select = { to: [await together(t, [t.c])] };
    const { answers } = await t.a.op("emitWithAck", { select, event });
    assert.deepEqual(answers.map(([, node]) => node), [t.c.node]);
  });

  test("a socket that asks the others is not asked itself", async () => {
    const event = t.nodes.name("question");
    for (const client of t.everybody) client.answer(event, { from: client.id });
    const { answers } = await t.b.op("emitWithAck", { select: { fromSocket: true }, event });
    assert.deepEqual(valuesOf(answers), [t.a, t.a2, t.c].map(({ id }) => id).sort());
  });

  test("a local question stays on the node", async () => {
    const event = t.nodes.name("question");
    for (const client of t.everybody) client.answer(event, { from: client.id });
    const { answers } = await t.a.op("emitWithAck", { select: { local: true }, event });
    assert.deepEqual(valuesOf(answers), [t.a, t.a2].map(({ id }) => id).sort());
  });

  test("a client that leaves instead of answering does not cost the answers of the others", async () => {
    const event = t.nodes.name("question");
    const leaver = await t.nodes.connect(1);
    const room = await together(t, [leaver, t.c]);
    leaver.socket.on(event, () => leaver.close());
    t.c.answer(event, "here");
    const { answers } = await t.a.op("emitWithAck", { select: { to: [room], timeout: 500 }, event });
    assert.deepEqual(answers.map(([, answer]) => answer), ["here"]);
  });
}

/** Puts the clients into a room of their own. */
async function together(t, clients) {
  const room = t.nodes.name("room");
  for (const client of clients) await client.op("join", { rooms: [room] });
  return room;
}

function valuesOf(answers) {
  return answers.map(([, { from }]) => from).sort();
}
