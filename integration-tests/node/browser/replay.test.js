import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatPage, openBrowser, startChat } from "../lib/chat.js";

test("a page whose node stops gets what it missed on another node, every message once and in order", async (t) => {
  const { ann, bob, stopAnnsNode } = await talk(t);
  await bob.write("before");
  await ann.message("before").waitFor();

  await ann.goAway();
  await stopAnnsNode();
  const missed = ["missed 1", "missed 2", "missed 3", "missed, with a picture", "missed 4", "missed 5"];
  const picture = await bob.page.screenshot({ clip: { x: 0, y: 0, width: 240, height: 120 } });
  for (const text of missed) {
    if (text === "missed, with a picture") await bob.attach("view.png", "image/png", picture);
    await bob.write(text);
    await bob.stateOf(text, "Sent").waitFor();
  }
  assert.deepEqual(await ann.texts(), ["before"]);

  await ann.comeBack();
  await ann.message("missed 5").waitFor();
  await bob.write("after");
  await ann.message("after").waitFor();
  await ann.write("I have read it all");
  await bob.message("I have read it all").waitFor();
  await ann.stateOf("I have read it all", "Sent").waitFor();

  const everything = ["before", ...missed, "after", "I have read it all"];
  assert.deepEqual(await ann.texts(), everything);
  assert.deepEqual(await bob.texts(), everything);
  assert.ok((await ann.picture("view.png")).equals(picture));
  await ann.screenshot("replay.png");
});

test("a page that has not read anything yet misses nothing either", async (t) => {
  const { ann, bob, stopAnnsNode } = await talk(t);
  await ann.goAway();
  await stopAnnsNode();
  await bob.write("the first message of all");
  await bob.stateOf("the first message of all", "Sent").waitFor();
  await ann.comeBack();
  await ann.message("the first message of all").waitFor();
  assert.equal(await ann.notice("Some messages were missed").count(), 0);
});

test("what was written in a room before it was entered is not missed", async (t) => {
  const { ann, bob, stopAnnsNode } = await talk(t);
  await bob.enterRoom("gardening");
  await bob.write("before Ann has entered");
  await bob.stateOf("before Ann has entered", "Sent").waitFor();
  await ann.conversation(/gardening/).click();
  await bob.page.getByText("2 in this room").waitFor();
  await ann.goAway();
  await stopAnnsNode();
  await bob.write("while Ann is away");
  await bob.stateOf("while Ann is away", "Sent").waitFor();
  await ann.comeBack();
  await ann.message("while Ann is away").waitFor();
  assert.deepEqual(await ann.texts(), ["while Ann is away"]);
});

test("a page that was away for too long says that it has missed something, and goes on", async (t) => {
  const { ann, bob, stopAnnsNode } = await talk(t, "memory://short?history=on&history_messages=3");
  await ann.goAway();
  await stopAnnsNode();
  for (const text of ["forgotten 1", "forgotten 2", "kept 1", "kept 2", "kept 3"]) {
    await bob.write(text);
    await bob.stateOf(text, "Sent").waitFor();
  }
  await ann.comeBack();
  await ann.notice("Some messages were missed").waitFor();
  await bob.write("after");
  await ann.message("after").waitFor();
  assert.deepEqual(await ann.texts(), ["after"]);
});

test("on a broker without history a page moves all the same", async (t) => {
  const { ann, bob, stopAnnsNode } = await talk(t, "memory:");
  await bob.write("before");
  await ann.message("before").waitFor();
  await ann.goAway();
  await stopAnnsNode();
  await bob.write("nobody hears this");
  await bob.stateOf("nobody hears this", "Sent").waitFor();
  await ann.comeBack();
  await bob.write("after");
  await ann.message("after").waitFor();
  assert.deepEqual(await ann.texts(), ["before", "after"]);
  assert.equal(await ann.notice("Some messages were missed").count(), 0);
});

/** Ann and Bob on a node each. Neither page may report an error. */
async function talk(t, broker) {
  const chat = await startChat(2, broker);
  t.after(() => chat.stop());
  const browsers = await Promise.all([openBrowser(), openBrowser()]);
  t.after(async () => {
    await Promise.all(browsers.map((browser) => browser.close()));
    for (const browser of browsers) assert.deepEqual(browser.errors, []);
  });
  const [first, second] = chat.ports;
  const [ann, bob] = await Promise.all([
    ChatPage.enter(browsers[0], first, "Ann"),
    ChatPage.enter(browsers[1], second, "Bob"),
  ]);
  await bob.personOn(first, "Ann").waitFor();
  await ann.personOn(second, "Bob").waitFor();
  return {
    ann: Object.assign(ann, {
      /** Out of reach of every node, once the present one has ended the connection. */
      goAway: () => browsers[0].context.setOffline(true),
      async comeBack() {
        await browsers[0].context.setOffline(false);
        await ann.notice(`You are on node ${second} now`).waitFor();
        assert.equal(await ann.connectedTo(), second);
        await bob.personOn(second, "Ann").waitFor();
      },
    }),
    bob,
    async stopAnnsNode() {
      await bob.switchNode(first, "Stop");
      await bob.page.getByRole("button", { name: `Start node ${first}` }).waitFor();
      await ann.page.getByText(/Looking for another node|No node answers/).waitFor();
    },
  };
}
