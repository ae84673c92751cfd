import assert from "node:assert/strict";
import { assertReached } from "../../client.js";
import { inRooms } from "./rooms.js";

/**
 * Rooms that are numbers. For Node.js servers the room 42 is not the room "42"; the rooms of socketioxide are text, so a Rust server takes what
 * is sent to either, and sends to numbers by the adapter.
 */
export const numberCells = [
  {
    name: "a room that is a number: emit to it, except it",
    async run(t) {
      const room = await numbered(t);
      await t.a.emit({ to: [room] }, `to ${room}`);
      await assertReached(t.a, `to ${room}`, [t.a2, t.b], t.everybody);
      await t.a.emit({ to: [room, t.c.id] }, `to ${room} too`);
      await assertReached(t.a, `to ${room} too`, [t.a2, t.b, t.c], t.everybody);
      await t.a.emit({ except: [room] }, `except ${room}`);
      await assertReached(t.a, `except ${room}`, [t.a, t.c], t.everybody);
    },
  },
  {
    name: "a room that is a number: acknowledged emit, fetchSockets",
    async run(t) {
      const room = await numbered(t);
      const event = t.name("question");
      for (const client of t.everybody) client.answer(event, client.id);
      const { answers } = await t.a.op("emitWithAck", { event, select: { to: [room] } });
      assert.deepEqual(answers.map(([, id]) => id).sort(), [t.a2.id, t.b.id].sort());
      const { sockets } = await t.a.op("fetchSockets", { select: { to: [room] } });
      assert.deepEqual(sockets.map(({ id }) => id).sort(), [t.a2.id, t.b.id].sort());
    },
  },
  {
    name: "a room that is a number: socketsJoin, socketsLeave, disconnectSockets",
    async run(t) {
      const [room, inner] = [await numbered(t), number(t)];
      const texts = [String(inner)];
      await t.a.op("socketsJoin", { select: { to: [room] }, rooms: [inner] });
      for (const member of [t.a2, t.b]) await inRooms(member, texts, texts);
      await inRooms(t.c, texts, []);
      await t.a.op("socketsLeave", { select: { to: [room] }, rooms: [inner] });
      for (const member of [t.a2, t.b]) await inRooms(member, texts, []);
      const guest = await t.cluster.connect(t.places.far);
      await guest.op("join", { rooms: [inner] });
      await t.a.op("disconnectSockets", { select: { to: [inner] } });
      assert.equal(await guest.ended(), "io server disconnect");
      assert.ok(t.everybody.every(({ socket }) => socket.connected));
    },
  },
];

/** A number as a room, with a socket on either kind of server; a socket in the room of the same text on a Node.js server is not in it. */
async function numbered(t) {
  const room = number(t);
  for (const member of [t.a2, t.b]) await member.op("join", { rooms: [room] });
  await t.c.op("join", { rooms: [String(room)] });
  return room;
}

/** A number that no other cell uses. */
export function number(t) {
  return 1000 + Number(t.name("number").match(/\d+$/)[0]);
}
