import assert from "node:assert/strict";
import { test } from "node:test";
import { assertReached, settled } from "../client.js";

/** @param t the cluster of cases.js */
export function broadcastCases(t) {
  test("emit reaches every client of every node once", async () => {
    const event = t.nodes.name("all");
    await t.a.emit({}, event, 1);
    await assertReached(t.a, event, t.everybody, t.everybody);
  });

  test("emit from any node reaches the others", async () => {
    for (const sender of t.everybody) {
      const event = t.nodes.name("from");
      await sender.emit({}, event);
      await assertReached(sender, event, t.everybody, t.everybody);
    }
  });

  test("emit to a room reaches its members on all nodes", async () => {
    const room = t.nodes.name("room");
    for (const member of [t.a2, t.c]) await member.op("join", { rooms: [room] });
    await t.a.emit({ to: [room] }, room);
    await assertReached(t.a, room, [t.a2, t.c], t.everybody);
  });

  test("emit to several rooms reaches a member of two of them once", async () => {
    const [one, two] = [t.nodes.name("room"), t.nodes.name("room")];
    await t.b.op("join", { rooms: [one, two] });
    await t.c.op("join", { rooms: [two] });
    await t.a.emit({ to: [one, two] }, one);
    await assertReached(t.a, one, [t.b, t.c], t.everybody);
  });

  test("emit to a room nobody is in reaches nobody", async () => {
    const room = t.nodes.name("room");
    await t.a.emit({ to: [room] }, room);
    await assertReached(t.a, room, [], t.everybody);
  });

  test("except leaves out the members of a room on other nodes", async () => {
    const room = t.nodes.name("room");
    for (const member of [t.a, t.b]) await member.op("join", { rooms: [room] });
    await t.a.emit({ except: [room] }, room);
    await assertReached(t.a, room, [t.a2, t.c], t.everybody);
  });

  test("a room except another room", async () => {
    const [room, except] = [t.nodes.name("room"), t.nodes.name("room")];
    for (const member of [t.a2, t.b, t.c]) await member.op("join", { rooms: [room] });
    await t.b.op("join", { rooms: [except] });
    await t.a.emit({ to: [room], except: [except] }, room);
    await assertReached(t.a, room, [t.a2, t.c], t.everybody);
  });

  test("a socket's id is a room for the other nodes", async () => {
    const event = t.nodes.name("id");
    await t.a.emit({ to: [t.c.id] }, event);
    await assertReached(t.a, event, [t.c], t.everybody);
  });

  test("a broadcast of a socket reaches all but the sender", async () => {
    const event = t.nodes.name("broadcast");
    await t.b.emit({ fromSocket: true }, event);
    await assertReached(t.b, event, [t.a, t.a2, t.c], t.everybody);
  });

  test("a socket's emit to its own room reaches all others in it", async () => {
    const room = t.nodes.name("room");
    for (const member of [t.a, t.b, t.c]) await member.op("join", { rooms: [room] });
    await t.a.emit({ fromSocket: true, to: [room] }, room);
    await assertReached(t.a, room, [t.b, t.c], t.everybody);
  });

  test("within includes the sender", async () => {
    const room = t.nodes.name("room");
    for (const member of [t.a, t.b]) await member.op("join", { rooms: [room] });
    await t.a.emit({ fromSocket: true, within: [room] }, room);
    await assertReached(t.a, room, [t.a, t.b], t.everybody);
  });

  test("local stays on the node", async () => {
    const event = t.nodes.name("local");
    await t.a.emit({ local: true }, event);
    await assertReached(t.a, event, [t.a, t.a2], t.everybody);
  });

  test("a volatile message arrives at most once, and at clients that can take it", async () => {
    const event = t.nodes.name("volatile");
    await t.a.emit({ volatile: true }, event, { at: "once" });
    await settled(t.a, t.everybody);
    const counts = t.everybody.map((client) => client.all(event).length);
    // Between two polls a client has no request open that could take it.
    const least = t.a.transport === "websocket" ? 1 : 0;
    assert.ok(counts.every((count) => count >= least && count <= 1), `received ${counts}`);
  });

  test("what one sender emits arrives in order and complete", async () => {
    const [event, room] = [t.nodes.name("order"), t.nodes.name("room")];
    await t.c.op("join", { rooms: [room] });
    const count = 300;
    for (let number = 0; number < count; number += 1) {
      const select = number % 3 === 0 ? { to: [room] } : {};
      await t.a.emit(select, event, number, number % 50 === 0 ? "x".repeat(20_000) : "");
    }
    await settled(t.a, t.everybody);
    const numbers = Array.from({ length: count }, (_, number) => number);
    assert.deepEqual(t.c.all(event).map(([number]) => number), numbers);
    assert.deepEqual(t.b.all(event).map(([number]) => number), numbers.filter((number) => number % 3 !== 0));
  });

  test("the same event many times arrives as many times", async () => {
    const event = t.nodes.name("same");
    for (let repeat = 0; repeat < 50; repeat += 1) await t.a.emit({}, event, "the same");
    await settled(t.a, t.everybody);
    for (const client of t.everybody) assert.equal(client.all(event).length, 50);
  });

  test("a client that has left a room gets nothing of it any more", async () => {
    const room = t.nodes.name("room");
    for (const member of [t.b, t.c]) await member.op("join", { rooms: [room] });
    await t.b.op("leave", { rooms: [room] });
    await t.a.emit({ to: [room] }, room);
    await assertReached(t.a, room, [t.c], t.everybody);
  });
}
