import assert from "node:assert/strict";
import { test } from "node:test";
import { assertReached } from "../client.js";

/** @param t the cluster of cases.js */
export function socketCases(t) {
  test("fetchSockets finds the sockets of all nodes", async () => {
    for (const asker of [t.a, t.b, t.c]) {
      const { sockets } = await asker.op("fetchSockets");
      assert.deepEqual(idsOf(sockets), ids(t.everybody));
      assert.equal(new Set(sockets.map(({ server }) => server)).size, 3);
    }
  });

  test("fetchSockets by room, with exceptions, and on this node only", async () => {
    const [room, except] = [t.nodes.name("room"), t.nodes.name("room")];
    for (const member of [t.a2, t.b, t.c]) await member.op("join", { rooms: [room] });
    await t.b.op("join", { rooms: [except] });
    assert.deepEqual(idsOf((await t.a.op("fetchSockets", { select: { to: [room] } })).sockets), ids([t.a2, t.b, t.c]));
    assert.deepEqual(idsOf((await t.a.op("fetchSockets", { select: { to: [room], except: [except] } })).sockets), ids([t.a2, t.c]));
    assert.deepEqual(idsOf((await t.a.op("fetchSockets", { select: { local: true } })).sockets), ids([t.a, t.a2]));
  });

  test("a client that has gone is not found any more", async () => {
    const guest = await t.nodes.connect(2);
    const { id } = guest;
    assert.ok(idsOf((await t.a.op("fetchSockets")).sockets).includes(id));
    guest.close();
    assert.deepEqual(await t.a.next("left"), [id]);
    assert.deepEqual(idsOf((await t.a.op("fetchSockets")).sockets), ids(t.everybody));
  });

  test("an emit to a remote socket reaches it alone", async () => {
    const event = t.nodes.name("remote");
    await t.a.op("remoteEmit", { id: t.c.id, event, args: [{ bytes: Buffer.from("xy") }] });
    await assertReached(t.a, event, [t.c], t.everybody);
    assert.equal(Buffer.from(t.c.all(event)[0][0].bytes).toString(), "xy");
  });

  test("an emit to the sender's own socket as a remote one reaches it alone", async () => {
    const event = t.nodes.name("remote");
    await t.a.op("remoteEmit", { id: t.a.id, event });
    await assertReached(t.a, event, [t.a], t.everybody);
  });

  test("a remote socket answers", async () => {
    const event = t.nodes.name("remote");
    t.b.answer(event, { heard: true });
    const { answers } = await t.a.op("remoteEmitWithAck", { id: t.b.id, event, args: [1, 2] });
    assert.deepEqual(answers.map(([, answer]) => answer), [{ heard: true }]);
    assert.deepEqual(t.b.all(event), [[1, 2]]);
  });

  test("a remote socket joins, lists and leaves rooms", async () => {
    const [one, two] = [t.nodes.name("room"), t.nodes.name("room")];
    await t.a.op("remoteJoin", { id: t.c.id, rooms: [one, two] });
    await t.a.emit({ to: [one] }, one);
    await assertReached(t.a, one, [t.c], t.everybody);
    const rooms = async () => (await t.a.op("remoteRooms", { id: t.c.id })).rooms.filter((room) => [one, two].includes(room));
    assert.deepEqual(await rooms(), [one, two].sort());
    await t.a.op("remoteLeave", { id: t.c.id, rooms: [one] });
    assert.deepEqual(await rooms(), [two]);
    await t.a.emit({ to: [one] }, two);
    await assertReached(t.a, two, [], t.everybody);
  });

  test("a remote socket is disconnected, and only that one", async () => {
    const guest = await t.nodes.connect(1);
    const { id } = guest;
    await t.a.op("remoteDisconnect", { id });
    assert.equal(await guest.ended(), "io server disconnect");
    assert.deepEqual(idsOf((await t.a.op("fetchSockets")).sockets), ids(t.everybody));
  });

  test("socketsJoin and socketsLeave act on the sockets of all nodes", async () => {
    const [room, inner, except] = [t.nodes.name("room"), t.nodes.name("room"), t.nodes.name("room")];
    for (const member of [t.a2, t.b, t.c]) await member.op("join", { rooms: [room] });
    await t.a.op("socketsJoin", { select: { to: [room] }, rooms: [inner] });
    await t.a.emit({ to: [inner] }, "inside", inner);
    await assertReached(t.a, "inside", [t.a2, t.b, t.c], t.everybody);
    await t.b.op("join", { rooms: [except] });
    await t.a.op("socketsLeave", { select: { to: [inner], except: [except] }, rooms: [inner] });
    t.everybody.forEach((client) => client.forget());
    await t.a.emit({ to: [inner] }, "inside", inner);
    await assertReached(t.a, "inside", [t.b], t.everybody);
  });

  test("rooms lists the rooms of the sockets of all nodes", async () => {
    const [room, other] = [t.nodes.name("room"), t.nodes.name("room")];
    await t.b.op("join", { rooms: [room] });
    await t.c.op("join", { rooms: [other] });
    const { rooms } = await t.a.op("rooms");
    assert.ok(rooms.includes(room) && rooms.includes(other), JSON.stringify(rooms));
    assert.ok((await t.c.op("ownRooms")).rooms.includes(other));
  });

  test("disconnectSockets ends the connections of a room on all nodes", async () => {
    const room = t.nodes.name("room");
    const guests = await Promise.all([0, 1, 2].map((node) => t.nodes.connect(node)));
    for (const guest of guests) await guest.op("join", { rooms: [room] });
    await t.a.op("disconnectSockets", { select: { to: [room] } });
    for (const guest of guests) assert.equal(await guest.ended(), "io server disconnect");
    assert.deepEqual(idsOf((await t.a.op("fetchSockets")).sockets), ids(t.everybody));
  });
}

function ids(clients) {
  return clients.map(({ id }) => id).sort();
}

function idsOf(sockets) {
  return sockets.map(({ id }) => id).sort();
}
