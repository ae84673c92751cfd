import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatPage, openBrowser, startChat } from "../lib/chat.js";

test("a page says when no node answers, and goes on as soon as one does", async (t) => {
  const chat = await startChat(3);
  t.after(() => chat.stop());
  const browser = await openBrowser();
  t.after(() => browser.close());
  const ann = await ChatPage.enter(browser, chat.ports[0], "Ann");
  await ann.write("before");
  await ann.stateOf("before", "Sent").waitFor();
  await chat.stop();
  await ann.page.getByText("No node answers: all are stopped or out of reach.").waitFor();
  await ann.page.locator("#connection").getByText("no node answers", { exact: true }).waitFor();
  for (const port of chat.ports) assert.match(await ann.node(port).innerText(), /no answer/);
  assert.equal(await ann.page.getByRole("button", { name: /^(Stop|Start) node/ }).count(), 0);
  assert.equal(await ann.page.getByText("moving").count(), 0);
  await ann.screenshot("no-node.png");
  await ann.write("while no node answers");
  await ann.stateOf("while no node answers", "Sending…").waitFor();

  const again = await startChat(3, undefined, chat.ports);
  t.after(() => again.stop());
  await ann.stateOf("while no node answers", "Sent").waitFor();
  await ann.page.getByText("No node answers:").waitFor({ state: "hidden" });
  const here = await ann.connectedTo();
  await ann.personOn(here, "Ann").waitFor();
  await ann.page.getByRole("button", { name: `Stop node ${here}` }).waitFor();
  assert.deepEqual(browser.errors, []);
});
