import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { ChatPage, openBrowser, startChat } from "../lib/chat.js";

describe("the chat page on several nodes", () => {
  let chat, browsers, ann, bob;

  before(async () => {
    chat = await startChat(3);
    browsers = await Promise.all([openBrowser(), openBrowser({ colorScheme: "dark" })]);
    [ann, bob] = await Promise.all([
      ChatPage.enter(browsers[0], chat.ports[0], "Ann"),
      ChatPage.enter(browsers[1], chat.ports[1], "Bob"),
    ]);
  });

  after(async () => {
    await Promise.all((browsers ?? []).map((browser) => browser.close()));
    await chat?.stop();
  });

  test("says which node serves it and who is on which node", async () => {
    for (const page of [ann, bob]) {
      await page.personOn(chat.ports[0], "Ann").waitFor();
      await page.personOn(chat.ports[1], "Bob").waitFor();
      assert.match(await page.node(chat.ports[2]).innerText(), /Nobody is here/);
    }
    assert.equal(await ann.connectedTo(), chat.ports[0]);
    assert.equal(await bob.connectedTo(), chat.ports[1]);
  });

  test("people on different nodes talk", async () => {
    await ann.write("Hello from the first node");
    await bob.message("Hello from the first node").waitFor();
    await bob.write("Hello from the second node");
    await ann.message("Hello from the second node").waitFor();
    await ann.stateOf("Hello from the first node", "Sent").waitFor();
  });

  test("text is shown as text", async () => {
    const text = "<img src=x onerror=alert(1)> & 'quotes' 世界";
    await ann.write(text);
    await bob.message(text).waitFor();
  });

  test("shows who is typing", async () => {
    await bob.type("I am thinking");
    await ann.page.getByText("Bob is typing…").waitFor();
    await bob.write("I thought");
    await ann.message("I thought").waitFor();
    await ann.page.getByText("Bob is typing…").waitFor({ state: "hidden" });
  });

  test("a picture arrives with every byte", async () => {
    const picture = await ann.page.screenshot({ clip: { x: 0, y: 0, width: 240, height: 120 } });
    await ann.attach("view.png", "image/png", picture);
    await ann.write("How it looks here");
    assert.ok((await bob.picture("view.png")).equals(picture));
  });

  test("a picture that is too large, or none, is refused with the reason", async () => {
    await ann.attach("large.png", "image/png", Buffer.alloc(600 * 1024));
    assert.equal(await ann.problem(), "“large.png” has 600 KB. A picture may have at most 512 KB.");
    await ann.attach("notes.txt", "text/plain", Buffer.from("text"));
    assert.equal(await ann.problem(), "“notes.txt” is not a PNG, JPEG, GIF or WebP picture.");
  });

  test("a room that somebody makes can be entered from another node", async () => {
    await ann.enterRoom("gardening");
    await bob.conversation(/gardening/).click();
    await bob.page.getByText("2 in this room").waitFor();
    await bob.write("Tomatoes!");
    await ann.message("Tomatoes!").waitFor();
    // The talk of before is still there.
    await ann.conversation(/lobby/).click();
    await ann.message("Hello from the second node").waitFor();
  });

  test("what is written elsewhere is counted", async () => {
    await bob.write("Still in the garden");
    await ann.conversation(/gardening.*1$/).waitFor();
    await ann.conversation(/gardening/).click();
    await ann.message("Still in the garden").waitFor();
    await bob.conversation(/lobby/).click();
    await ann.conversation(/lobby/).click();
  });

  test("a private message is confirmed by the other page", async () => {
    await ann.personOn(chat.ports[1], "Bob").click();
    await ann.write("Just between us");
    await ann.stateOf("Just between us", `Delivered on node ${chat.ports[1]}`).waitFor();
    await bob.conversation(/^Ann/).click();
    await bob.message("Just between us").waitFor();
    await bob.write("Of course");
    await ann.message("Of course").waitFor();
  });

  test("a private message to somebody who has gone says so and can be tried again", async (t) => {
    const guest = await openBrowser();
    t.after(() => guest.close());
    const cyd = await ChatPage.enter(guest, chat.ports[2], "Cyd");
    await ann.personOn(chat.ports[2], "Cyd").click();
    await ann.write("Are you there?");
    await ann.stateOf("Are you there?", "Delivered").waitFor();
    await cyd.page.close();
    await ann.page.getByText("private · offline").waitFor();
    await ann.write("And now?");
    await ann.stateOf("And now?", "Not delivered: they are not online").waitFor();
    await ann.page.getByRole("button", { name: "Try again" }).waitFor();
    for (const page of [ann, bob]) await page.conversation(/lobby/).click();
  });

  test("the other name is everywhere", async () => {
    await bob.page.getByRole("button", { name: "Change your nickname" }).click();
    await bob.name("Robert");
    await ann.personOn(chat.ports[1], "Robert").waitFor();
  });

  test("when its node stops a page moves to another, loses nothing it writes, and everybody sees it there", async () => {
    const [first] = chat.ports;
    await ann.switchNode(first, "Stop");
    await ann.write("Written while my node stops");
    await ann.page.getByText(/You are on node \d+ now/).waitFor();
    const other = await ann.connectedTo();
    assert.notEqual(other, first);
    await bob.message("Written while my node stops").waitFor();
    await bob.personOn(other, "Ann").waitFor();
    assert.match(await bob.node(first).innerText(), /stopped/);
    await ann.write("I am still here");
    await bob.message("I am still here").waitFor();
    assert.equal(await bob.message("Written while my node stops").count(), 1);
    assert.equal(await ann.message("Written while my node stops").count(), 1);
    await ann.screenshot("moved.png");
  });

  test("a stopped node can be started again and takes pages", async () => {
    const [first] = chat.ports;
    await bob.switchNode(first, "Start");
    await bob.page.getByRole("button", { name: `Stop node ${first}` }).waitFor();
    await browsers[0].forgetPages();
    const dana = await ChatPage.enter(browsers[0], first, "Dana");
    await dana.personOn(chat.ports[1], "Robert").waitFor();
    await dana.write("The first node is back");
    await bob.message("The first node is back").waitFor();
    await dana.screenshot("desktop-light.png");
    await bob.screenshot("desktop-dark.png");
  });

  test("on a phone the side columns are drawers", async (t) => {
    const phone = await openBrowser({ viewport: { width: 390, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
    t.after(() => phone.close());
    const eve = await ChatPage.enter(phone, chat.ports[2], "Eve");
    await eve.write("From a phone");
    await bob.message("From a phone").waitFor();
    await eve.screenshot("phone.png");
    await eve.page.getByRole("button", { name: "People and nodes" }).click();
    await eve.personOn(chat.ports[1], "Robert").waitFor();
    await eve.screenshot("phone-people.png");
    await eve.page.keyboard.press("Escape");
    await eve.page.getByRole("button", { name: "Conversations" }).click();
    await eve.conversation(/gardening/).click();
    await eve.page.getByRole("heading", { name: "# gardening" }).waitFor();
    const overflow = await eve.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `the page is ${overflow} pixels too wide`);
  });

  test("no page has reported an error", () => {
    for (const browser of browsers) assert.deepEqual(browser.errors, []);
  });
});

test("the page's socket.io-client is the file of the published package", async () => {
  const vendored = new URL("../../../crates/trunkline/examples/chat/vendor/socket.io.min.js", import.meta.url);
  const published = new URL("../node_modules/socket.io-client/dist/socket.io.min.js", import.meta.url);
  assert.ok((await readFile(vendored)).equals(await readFile(published)));
});
