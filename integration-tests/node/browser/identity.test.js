import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { io } from "socket.io-client";
import { ChatPage, openBrowser, startChat } from "../lib/chat.js";

test("who presents the public id of somebody else does not get what is written to them alone", async (t) => {
  const { ports, ann, bob } = await talk(t, "Ann", "Bob");
  const bobsId = await ann.userOf("Bob");
  const spy = io(`http://127.0.0.1:${ports[0]}`, {
    transports: ["websocket"],
    auth: { user: bobsId, secret: bobsId, name: "Spy", rooms: ["lobby"] },
  });
  t.after(() => spy.close());
  const heard = [];
  spy.onAny((event, ...args) => heard.push([event, args]));
  const [greeting] = await once(spy, "ready");
  assert.notEqual(greeting.user, bobsId);

  await ann.personOn(ports[1], "Bob").click();
  await ann.type("Just between us");
  await ann.write("Just between us");
  await ann.stateOf("Just between us", `Delivered on node ${ports[1]}`).waitFor();
  await ann.conversation(/lobby/).click();
  const marker = once(spy, "message");
  await ann.write("For everybody");
  await marker;
  assert.deepEqual(heard.filter(([event, [said]]) => event === "private" || (event === "typing" && said.private)), []);
  await bob.conversation(/^Ann/).click();
  assert.deepEqual(await bob.texts(), ["Just between us"]);
  // Nor does anybody learn a secret.
  const secrets = await Promise.all([ann, bob].map(({ page }) => page.evaluate(() => JSON.parse(sessionStorage.getItem("me")).secret)));
  for (const secret of secrets) assert.ok(secret.length >= 16 && !JSON.stringify(heard).includes(secret));
});

test("two people of one name can be told apart", async (t) => {
  const { ports, ann, bob: cyd } = await talk(t, "Ann", "Cyd");
  const other = await openBrowser();
  t.after(() => other.close());
  const namesake = await ChatPage.enter(other, ports[1], "ann");
  await cyd.write("Which of you is it?");
  await namesake.message("Which of you is it?").waitFor();
  await ann.write("I am the first");
  await namesake.write("I am the second");
  await cyd.message("I am the second").waitFor();
  const marks = await cyd.page.locator(".message .namesake").allInnerTexts();
  const people = await cyd.page.locator(".node .namesake").allInnerTexts();
  assert.equal(new Set(marks).size, 2);
  assert.deepEqual(marks.toSorted(), people.toSorted());
  await cyd.screenshot("namesakes.png");

  // Also where only one of them is seen.
  await cyd.page.locator(".node button").filter({ hasText: marks[1] }).click();
  await cyd.page.locator(".title .namesake").getByText(marks[1]).waitFor();
  await namesake.page.getByRole("button", { name: "Change your nickname" }).click();
  await namesake.name("Dora");
  await cyd.page.locator(".namesake").first().waitFor({ state: "detached" });
});

test("names and texts run the way of their script", async (t) => {
  const { ports, ann, bob } = await talk(t, "דנה", "Bob");
  await ann.write("שלום, Bob!");
  await bob.message("שלום, Bob!").waitFor();
  const direction = (locator) => locator.evaluate((element) => getComputedStyle(element).direction);
  assert.equal(await direction(bob.message("שלום, Bob!")), "rtl");
  assert.equal(await direction(bob.page.locator(".about bdi")), "rtl");
  assert.equal(await direction(bob.personOn(ports[0], "דנה")), "rtl");
  await ann.write("left to right");
  assert.equal(await direction(bob.message("left to right")), "ltr");
  await ann.type("שלום");
  assert.equal(await direction(ann.page.getByRole("textbox", { name: "Message", exact: true })), "rtl");
  await bob.page.getByText("דנה is typing…").waitFor();
  await bob.screenshot("right-to-left.png");
});

/** Two people on a node each. */
async function talk(t, first, second) {
  const chat = await startChat(2);
  t.after(() => chat.stop());
  const browsers = await Promise.all([openBrowser(), openBrowser()]);
  t.after(async () => {
    await Promise.all(browsers.map((browser) => browser.close()));
    for (const browser of browsers) assert.deepEqual(browser.errors, []);
  });
  const [ann, bob] = await Promise.all([
    ChatPage.enter(browsers[0], chat.ports[0], first),
    ChatPage.enter(browsers[1], chat.ports[1], second),
  ]);
  await ann.personOn(chat.ports[1], second).waitFor();
  await bob.personOn(chat.ports[0], first).waitFor();
  return { ports: chat.ports, ann, bob };
}
