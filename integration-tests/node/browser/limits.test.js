import assert from "node:assert/strict";
import { test } from "node:test";
import { ChatPage, openBrowser, startChat } from "../lib/chat.js";

test("nothing that is too long is cut without a word", async (t) => {
  const chat = await startChat(1);
  t.after(() => chat.stop());
  const browser = await openBrowser();
  t.after(() => browser.close());
  const ann = await ChatPage.enter(browser, chat.ports[0], "Ann");
  const field = ann.page.getByRole("textbox", { name: "Message", exact: true });

  const text = `${"x".repeat(4_999)}!`;
  await ann.paste("Message", text);
  await ann.page.getByText("1,000 characters too many: a message may have 4,000.").waitFor();
  await ann.screenshot("too-long.png");
  await field.press("Enter");
  assert.equal(await field.inputValue(), text);
  assert.deepEqual(await ann.texts(), []);
  // What people count as one character is not two.
  const most = "🙂".repeat(4_000);
  await field.fill(most);
  await ann.page.getByText("too many").waitFor({ state: "hidden" });
  await field.press("Enter");
  await ann.stateOf(most, "Sent").waitFor();
  assert.deepEqual(await ann.texts(), [most]);

  const room = ann.page.getByLabel("Name of the new room");
  await ann.paste("Name of the new room", "r".repeat(40));
  await room.press("Enter");
  assert.equal(await room.evaluate((field) => field.validationMessage), "At most 32 characters: this has 40.");
  assert.equal(await ann.conversation(/rrr/).count(), 0);
  await room.fill("r".repeat(32));
  await room.press("Enter");
  await ann.conversation(/rrr/).waitFor();

  await ann.page.getByRole("button", { name: "Change your nickname" }).click();
  await ann.page.getByRole("textbox", { name: "Nickname" }).fill("");
  await ann.paste("Nickname", "n".repeat(30));
  await ann.page.getByRole("button", { name: "Continue" }).click();
  const nickname = ann.page.getByRole("textbox", { name: "Nickname" });
  assert.equal(await nickname.evaluate((field) => field.validationMessage), "At most 24 characters: this has 30.");
  assert.deepEqual(browser.errors, []);
});
