import assert from "node:assert/strict";
import { payloads, comparable } from "../../cases/payloads.js";

export const payloadCells = [
  { name: "text, numbers, objects of every kind", run: (t) => assertUnchanged(t, ({ hasBinary, isLarge }) => !hasBinary && !isLarge) },
  { name: "binary at any depth", run: (t) => assertUnchanged(t, ({ hasBinary, isLarge }) => hasBinary && !isLarge) },
  { name: "large text and binary", run: (t) => assertUnchanged(t, ({ isLarge }) => isLarge) },
  {
    name: "every size around 8,000 bytes",
    async run(t) {
      const event = t.name("sized");
      // What stands around the text takes some 150 bytes more; 8,000 is a limit of PostgreSQL.
      const sizes = Array.from({ length: 130 }, (_, more) => 7760 + more);
      for (const size of sizes) await t.a.emit({}, event, "x".repeat(size));
      await t.a.emit({}, event, "last");
      for (const client of [t.b, t.c]) {
        const received = () => client.all(event).map(([text]) => text.length).sort((one, other) => one - other);
        await client.until("ownRooms", {}, () => client.all(event).length > sizes.length);
        assert.deepEqual(received(), ["last".length, ...sizes]);
      }
    },
  },
];

async function assertUnchanged(t, matches) {
  const chosen = Object.entries(payloads).filter(([name]) => matches({ hasBinary: /binar/.test(name), isLarge: /large/.test(name) }));
  assert.ok(chosen.length > 0);
  for (const [name, args] of chosen) {
    const event = t.name("payload");
    await t.a.emit({}, event, ...args);
    for (const client of t.everybody) {
      assert.deepEqual(comparable(await client.next(event)), comparable(args), `${name}, at the client of node ${client.node}`);
    }
  }
}
