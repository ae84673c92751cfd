import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { settled } from "../lib/client.js";
import { startNodes } from "../lib/nodes.js";

describe("a client that starts with long-polling and upgrades to WebSocket", () => {
  let nodes;
  before(async () => (nodes = await startNodes({ transports: ["polling", "websocket"] })));
  after(() => nodes.stop());

  test("loses and repeats nothing while it upgrades", async () => {
    const [sender, client] = [await nodes.connect(0), await nodes.connect(1)];
    assert.equal(client.transport, "polling");
    const { engine } = client.socket.io;
    const upgraded = engine.transport.name === "websocket" ? undefined : once(engine, "upgrade");
    const numbers = Array.from({ length: 200 }, (_, number) => number);
    for (const number of numbers) await sender.emit({}, "number", number);
    await upgraded;
    await settled(sender, [sender, client]);
    assert.equal(engine.transport.name, "websocket");
    assert.deepEqual(client.all("number").map(([number]) => number), numbers);
  });
});
