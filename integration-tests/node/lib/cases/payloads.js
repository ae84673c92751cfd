import assert from "node:assert/strict";
import { test } from "node:test";

const bytes = Buffer.from([0, 1, 2, 127, 128, 255]);

export const payloads = {
  "no argument": [],
  "many arguments": [1, "two", [3], { four: 4 }, null, true],
  "strings that need escaping": ['quote " backslash \\ newline \n', "\u0000\u001f\u2028", "", "12", "null"],
  "characters beyond ASCII": ["grüße, 世界, 👩‍🚀, e\u0301", { "ключ": "значение" }],
  "numbers": [0, -1, 0.5, -1e-7, 1.5e-300, 2 ** 31, -(2 ** 31), 2 ** 53 - 1, -(2 ** 53) + 1],
  "null and empty things": [null, [], {}, [[]], { a: {}, b: [], c: null }],
  "deep nesting": [nested(45)],
  "a lot of objects": [Array.from({ length: 500 }, (_, id) => ({ id, name: `name ${id}`, tags: ["a", "b"] }))],
  "binary as an argument": [bytes],
  "several binaries and empty ones": [bytes, Buffer.alloc(0), bytes],
  "binary at any depth": [{ a: [{ b: { c: bytes } }, bytes], d: "text", e: bytes }],
  "large text": ["x".repeat(600_000)],
  "large binary": [Buffer.alloc(600_000, 7)],
};

/** @param t the cluster of cases.js */
export function payloadCases(t) {
  for (const [name, args] of Object.entries(payloads)) {
    test(`${name}: arrives unchanged on every node`, async () => {
      const event = t.nodes.name("payload");
      await t.a.emit({}, event, ...args);
      for (const client of t.everybody) assert.deepEqual(comparable(await client.next(event)), comparable(args));
    });
  }

  test("an echo brings back what was sent", async () => {
    for (const args of Object.values(payloads)) {
      if (args.length === 0) continue;
      // An acknowledgement as a promise has one value.
      const echo = await new Promise((resolve) => t.b.socket.emit("echo", ...args, (...echo) => resolve(echo)));
      assert.deepEqual(comparable(echo), comparable(args));
    }
  });
}

function nested(depth) {
  return depth === 0 ? "bottom" : { [`level ${depth}`]: [nested(depth - 1)] };
}

/** Parsers differ in the class they use for bytes. */
export function comparable(value) {
  if (ArrayBuffer.isView(value)) return { bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex") };
  if (value instanceof ArrayBuffer) return { bytes: Buffer.from(value).toString("hex") };
  if (Array.isArray(value)) return value.map(comparable);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, comparable(inner)]));
}
