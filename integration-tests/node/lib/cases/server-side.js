import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "../client.js";

/** Server-side events: `notice` is passed on by each server that hears it to its clients, `question` is answered, `never` is not. */
export function serverSideCases(t) {
  test("a server-side event reaches all other servers and not the sender", async () => {
    const word = t.nodes.name("word");
    await t.a.op("serverSideEmit", { event: "notice", args: [word, { bytes: Buffer.from("ab") }] });
    for (const client of [t.b, t.c]) {
      const [heard, { bytes }] = await client.next("notice");
      assert.equal(heard, word);
      assert.equal(Buffer.from(bytes).toString(), "ab");
    }
    await settled(t.a, t.everybody);
    assert.deepEqual([t.a, t.a2].flatMap((client) => client.all("notice")), []);
    assert.deepEqual([t.b, t.c].map((client) => client.all("notice").length), [1, 1]);
  });

  test("all other servers answer a question, also with binary", async () => {
    const { servers } = await t.b.op("serverSideEmitWithAck", { event: "question", args: [1, Buffer.from("xy")] });
    const answers = servers.map(([node, [number, bytes]]) => [node, number, Buffer.from(bytes).toString()]);
    assert.deepEqual(answers.sort(), [[0, 1, "xy"], [2, 1, "xy"]]);
  });

  test("a server without a handler answers at once that it has none", async () => {
    const { servers } = await t.a.op("serverSideEmitWithAck", { event: t.nodes.name("unheard of") });
    assert.deepEqual(servers, [null, null]);
  });

  test("servers that do not answer in time are named", async () => {
    const { servers, nodes } = await t.a.op("serverSideEmitWithAck", { event: "never", select: { timeout: 300 } });
    const { nodes: peers } = await t.a.op("peers");
    assert.deepEqual(servers, []);
    assert.equal(nodes.length, 2);
    assert.deepEqual(nodes.sort(), peers.sort());
  });

  test("server-side events of another namespace are not heard", async () => {
    const others = await Promise.all([0, 1].map((node) => t.nodes.connect(node, { namespace: "/other" })));
    const word = t.nodes.name("word");
    await others[0].op("serverSideEmit", { event: "notice", args: [word] });
    assert.deepEqual(await others[1].next("notice"), [word]);
    await settled(t.a, t.everybody);
    for (const client of t.everybody) assert.deepEqual(client.all("notice"), []);
    others.forEach((client) => client.close());
  });
}
