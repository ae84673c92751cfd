import assert from "node:assert/strict";
import { comparable } from "../../cases/payloads.js";
import { settled } from "../../client.js";
import { number } from "./numbers.js";
import { inRooms, joined } from "./rooms.js";

/**
 * What a process does that is no node: the Rust emitter for the clients of Node.js nodes, the official emitters for those of the Rust node.
 * Whether the others hear the official emitters too is not asked: the one for PostgreSQL and its adapter do not fit together.
 */
export const emitterCells = [
  {
    name: "emitter: emit to all, to rooms, except rooms",
    async run(t) {
      const { emitter, targets } = await withEmitter(t);
      const room = await joined(t, [...targets, t.a2]);
      const other = await joined(t, targets);
      await assertHeard(t, targets, true, (event) => emitter.emit({}, event, 1));
      await assertHeard(t, targets, true, (event) => emitter.emit({ to: [room] }, event, 1));
      await assertHeard(t, targets, true, (event) => emitter.emit({ to: [room, other] }, event, 1));
      await assertHeard(t, targets, false, (event) => emitter.emit({ to: [room], except: [other] }, event, 1));
      await assertHeard(t, targets, true, (event) => emitter.emit({ to: targets.map(({ id }) => id) }, event, 1));
    },
  },
  {
    name: "emitter: binary, volatile",
    async run(t) {
      const { emitter, targets } = await withEmitter(t);
      const event = t.name("emitted");
      await emitter.emit({ volatile: true }, event, { deep: [Buffer.from("xy")] });
      for (const target of targets) assert.deepEqual(comparable(await target.next(event)), [{ deep: [{ bytes: "7879" }] }]);
    },
  },
  {
    name: "emitter: socketsJoin, socketsLeave",
    async run(t) {
      const { emitter, targets } = await withEmitter(t);
      const [room, inner] = [await joined(t, targets), t.name("inner")];
      await emitter.op("socketsJoin", { select: { to: [room] }, rooms: [inner] });
      for (const target of targets) await inRooms(target, [inner], [inner]);
      await emitter.op("socketsLeave", { select: { to: [inner] }, rooms: [inner] });
      for (const target of targets) await inRooms(target, [inner], []);
    },
  },
  {
    name: "emitter: disconnectSockets",
    async run(t) {
      const { emitter, targets } = await withEmitter(t);
      const guest = await t.cluster.connect(t.places.far);
      const room = await joined(t, [guest]);
      await emitter.op("disconnectSockets", { select: { to: [room] } });
      assert.equal(await guest.ended(), "io server disconnect");
      assert.ok(targets.every(({ socket }) => socket.connected));
    },
  },
  {
    name: "emitter: serverSideEmit",
    async run(t) {
      const { emitter, targets } = await withEmitter(t);
      const word = t.name("word");
      await emitter.op("serverSideEmit", { event: "notice", args: [word, [1, null]] });
      for (const target of targets) assert.deepEqual(await target.next("notice"), [word, [1, null]]);
    },
  },
  {
    name: "emitter: a room that is a number",
    async run(t) {
      const { emitter, targets } = await withEmitter(t);
      const [room, inner] = [number(t), number(t)];
      for (const target of targets) await target.op("join", { rooms: [room] });
      await assertHeard(t, targets, true, (event) => emitter.emit({ to: [room] }, event, 1));
      await assertHeard(t, targets, false, (event) => emitter.emit({ except: [room] }, event, 1));
      await emitter.op("socketsJoin", { select: { to: [room] }, rooms: [inner] });
      for (const target of targets) await inRooms(target, [String(inner)], [String(inner)]);
      await emitter.op("socketsLeave", { select: { to: [inner] }, rooms: [inner] });
      for (const target of targets) await inRooms(target, [String(inner)], []);
    },
  },
  {
    name: "emitter: a custom namespace",
    async run(t) {
      const { emitter } = await withEmitter(t, "/other");
      const guest = await t.cluster.connect(t.places.far, { namespace: "/other" });
      const event = t.name("emitted");
      await emitter.emit({}, event, "there");
      assert.deepEqual(await guest.next(event), ["there"]);
      await settled(t.b, [t.b]);
      assert.deepEqual(t.b.all(event), []);
      guest.close();
    },
  },
];

/** A client of the emitter, and the clients on nodes of the other kind. */
async function withEmitter(t, namespace = "/") {
  t.emitters ??= {};
  t.emitters[namespace] ??= await t.cluster.connect(t.places.emitter, { namespace });
  return { emitter: t.emitters[namespace], targets: t.others };
}

/** Asserts that exactly the targets have heard an event, or that nobody of them has. */
async function assertHeard(t, targets, expected, emit) {
  const event = t.name("emitted");
  const marker = t.name("marker");
  await emit(event);
  const { emitter } = await withEmitter(t);
  await emitter.emit({}, marker);
  for (const target of targets) {
    await target.next(marker);
    assert.equal(target.all(event).length, expected ? 1 : 0);
  }
}
