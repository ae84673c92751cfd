import assert from "node:assert/strict";
import { payloads, comparable } from "../../cases/payloads.js";

export const payloadCells = [
  { name: "text, numbers, objects of every kind", run: (t) => assertUnchanged(t, ({ hasBinary, isLarge }) => !hasBinary && !isLarge) },
  { name: "binary at any depth", run: (t) => assertUnchanged(t, ({ hasBinary, isLarge }) => hasBinary && !isLarge) },
  { name: "large text and binary", run: (t) => assertUnchanged(t, ({ isLarge }) => isLarge) },
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
