import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatPage, openBrowser, startChat } from "../lib/chat.js";

const PHONE = { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

test("with 30 rooms the form, the private talks and the name stay in sight, and rooms are sorted as numbers", async (t) => {
  const chat = await startChat(1);
  t.after(() => chat.stop());
  const browsers = await Promise.all([openBrowser(), openBrowser(), openBrowser(PHONE)]);
  t.after(() => Promise.all(browsers.map((browser) => browser.close())));
  const [ann, bob, eve] = await Promise.all(browsers.map((browser, index) => ChatPage.enter(browser, chat.ports[0], ["Ann", "Bob", "Eve"][index])));
  for (let number = 30; number > 0; number -= 1) await ann.enterRoom(`room ${number}`);
  const names = ["lobby", ...Array.from({ length: 30 }, (_, index) => `room ${index + 1}`)];
  assert.deepEqual(await ann.page.locator("#rooms .name").allInnerTexts(), names);

  await ann.personOn(chat.ports[0], "Bob").click();
  await inSight(ann);
  await ann.screenshot("rooms-desktop.png");
  // The list stays where it was while others talk.
  const scrolled = await ann.page.locator("#rooms").evaluate((list) => (list.scrollTop = 200));
  await bob.write("Hello");
  await ann.conversation(/lobby.*1$/).waitFor();
  assert.equal(await ann.page.locator("#rooms").evaluate((list) => list.scrollTop), scrolled);

  await eve.page.getByRole("button", { name: "Conversations" }).click();
  await eve.conversation(/room 30/).waitFor();
  await inSight(eve);
  await eve.screenshot("rooms-phone.png");
});

/** Whether what does not scroll away is within the window. */
async function inSight({ page }) {
  for (const id of ["room-name", "private-title", "private", "rename"]) {
    const box = await page.locator(`#${id}`).boundingBox();
    const bottom = page.viewportSize().height;
    // An empty list has no box.
    if (box) assert.ok(box.y >= 0 && box.y + box.height <= bottom, `${id}: ${JSON.stringify(box)}`);
  }
}

test("on a phone the header has two lines at most, whatever is in it", async (t) => {
  const chat = await startChat(2);
  t.after(() => chat.stop());
  const browsers = await Promise.all([openBrowser(PHONE), openBrowser()]);
  t.after(() => Promise.all(browsers.map((browser) => browser.close())));
  const [eve, bob] = await Promise.all([
    ChatPage.enter(browsers[0], chat.ports[0], "Eve"),
    ChatPage.enter(browsers[1], chat.ports[1], "A name of 24 characters."),
  ]);
  const header = eve.page.locator("main > .title");
  const height = async (name) => {
    await eve.screenshot(`phone-header-${name}.png`);
    const { height } = await header.boundingBox();
    assert.ok(height <= 66, `${name}: ${height} pixels`);
    const overflow = await eve.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(overflow <= 0, `${name}: ${overflow} pixels too wide`);
  };
  await height("lobby");
  await eve.page.getByRole("button", { name: "Conversations" }).click();
  await eve.enterRoom("a room with a name of 32 letters");
  await height("room");
  await eve.page.getByRole("button", { name: "People and nodes" }).click();
  await eve.personOn(chat.ports[1], "A name of 24 characters\\.").click();
  await height("private");
  await browsers[0].context.setOffline(true);
  await bob.switchNode(chat.ports[0], "Stop");
  await eve.page.getByText("No node answers:").waitFor();
  await height("unanswered");
});
