import assert from "node:assert/strict";
import { assertReached, settled } from "../../client.js";
import { joined } from "./rooms.js";

export const namespaceCells = [
  { name: "a custom namespace", run: (t) => assertSeparate(t, "/other") },
  { name: "a dynamic namespace", run: (t) => assertSeparate(t, t.name("/dynamic/room")) },
];

/** Everything in a namespace works as in the main one, and neither hears the other. */
async function assertSeparate(t, namespace) {
  const members = await Promise.all([t.places.near, t.places.far, t.places.third].map((place) => t.cluster.connect(place, { namespace })));
  const [a, b, c] = members;
  // A node that has just opened the namespace may not have heard of the others yet.
  for (const member of members) await member.until("serverCount", {}, ({ count }) => count === 3);
  const event = t.name("namespace");
  await a.emit({}, event, { bytes: Buffer.from("xy") });
  await assertReached(a, event, members, members);
  const room = await joined(t, [t.b, b, c]);
  await a.emit({ to: [room] }, room);
  await assertReached(a, room, [b, c], members);
  assert.deepEqual((await a.op("fetchSockets")).sockets.map(({ id }) => id).sort(), members.map(({ id }) => id).sort());
  for (const member of members) member.answer("question", member.node);
  const { answers } = await a.op("emitWithAck", { event: "question" });
  assert.deepEqual(answers.map(([, node]) => node).sort(), members.map(({ node }) => node).sort());
  await settled(t.a, t.everybody);
  for (const client of t.everybody) assert.deepEqual([...client.all(event), ...client.all(room), ...client.all("question")], []);
  members.forEach((member) => member.close());
}
