import assert from "node:assert/strict";
import { test } from "node:test";
import { assertReached, settled } from "../client.js";

/** @param t the cluster of cases.js */
export function namespaceCases(t) {
  test("namespaces of one cluster do not hear each other", async () => {
    const others = await Promise.all([0, 1, 2].map((node) => t.nodes.connect(node, { namespace: "/other" })));
    const event = t.nodes.name("namespace");
    await others[0].emit({}, event);
    await assertReached(others[0], event, others, others);
    await settled(t.a, t.everybody);
    for (const client of t.everybody) assert.deepEqual(client.all(event), []);
    assert.equal((await others[1].op("fetchSockets")).sockets.length, 3);
    others.forEach((client) => client.close());
  });

  test("the same room name in two namespaces is two rooms", async () => {
    const room = t.nodes.name("room");
    const [one, two] = [await t.nodes.connect(1, { namespace: "/other" }), await t.nodes.connect(2, { namespace: "/other" })];
    for (const member of [one, two, t.b]) await member.op("join", { rooms: [room] });
    await one.emit({ to: [room] }, room);
    await assertReached(one, room, [one, two], [one, two]);
    await settled(t.a, t.everybody);
    assert.deepEqual(t.b.all(room), []);
    [one, two].forEach((client) => client.close());
  });

  test("dynamic namespaces are made on each node when they are first used, and are separate", async () => {
    const names = [t.nodes.name("/dynamic/room"), t.nodes.name("/dynamic/room")];
    const [first, second] = [[], []];
    for (const node of [0, 1, 2]) {
      first.push(await t.nodes.connect(node, { namespace: names[0] }));
      second.push(await t.nodes.connect(node, { namespace: names[1] }));
    }
    const event = t.nodes.name("dynamic");
    await first[2].emit({}, event);
    await assertReached(first[2], event, first, first);
    await settled(second[0], second);
    for (const client of second) assert.deepEqual(client.all(event), []);
    assert.equal((await second[1].op("fetchSockets")).sockets.length, 3);
    [...first, ...second].forEach((client) => client.close());
  });

  test("a namespace that does not exist refuses the connection", async () => {
    await assert.rejects(t.nodes.connect(0, { namespace: "/nowhere" }), /Invalid namespace/);
  });

  test("clients use the transport they ask for", () => {
    for (const client of t.everybody) {
      assert.equal(client.transport, t.options.transports[0]);
      assert.equal(client.socket.io.engine.transport.name, t.options.transports[0]);
    }
  });
}
