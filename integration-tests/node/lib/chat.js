// The chat example, browsers, and the chat page as a person uses it.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { start } from "./program.js";

/** Starts the chat on free ports or these, over its usual broker or another; resolves with the ports of its nodes. */
export async function startChat(nodes, broker, wanted = [0]) {
  const ports = [];
  const options = ["--ports", wanted.join(","), "--nodes", String(nodes), ...(broker ? ["--broker", broker] : [])];
  const program = await start(process.env.CHAT, options, (line) => {
    const port = line.match(/^ +\d+ +http:\/\/127\.0\.0\.1:(\d+)$/)?.[1];
    if (port) ports.push(Number(port));
    return ports.length === nodes ? ports : undefined;
  });
  return { ports, stop: program.stop };
}

/** A browser of its own, as another person would have it. */
export async function openBrowser(options = {}) {
  const profile = await mkdtemp(join(tmpdir(), "trunkline-chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
    viewport: { width: 1280, height: 800 },
    // A screenshot must not catch a drawer halfway.
    reducedMotion: "reduce",
    ...options,
  });
  context.setDefaultTimeout(20_000);
  const errors = [];
  context.on("weberror", (error) => errors.push(String(error.error())));
  return {
    context,
    errors,
    /** The next page opened is another person's. */
    async forgetPages() {
      const pages = context.pages();
      await context.newPage();
      await Promise.all(pages.map((page) => page.close()));
    },
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** The page of one person. */
export class ChatPage {
  constructor(page) {
    this.page = page;
  }

  /** Opens the page of a node and enters under a name. */
  static async enter(browser, port, name) {
    const chat = new ChatPage(browser.context.pages()[0]);
    await chat.page.goto(`http://127.0.0.1:${port}/`);
    await chat.name(name);
    await chat.page.getByText(`on node ${port}`, { exact: true }).waitFor();
    return chat;
  }

  async name(name) {
    await this.page.getByRole("textbox", { name: "Nickname" }).fill(name);
    await this.page.getByRole("button", { name: "Continue" }).click();
  }

  async connectedTo() {
    return Number((await this.page.locator("#connection").innerText()).match(/^on node (\d+)$/)[1]);
  }

  type(text) {
    return this.#text().pressSequentially(text);
  }

  async write(text) {
    await this.#text().fill(text);
    await this.#text().press("Enter");
  }

  attach(name, mimeType, buffer) {
    return this.page.locator("#picture").setInputFiles({ name, mimeType, buffer });
  }

  /** Puts a text into the field as a paste does: what the field would not take is cut. */
  async paste(label, text) {
    await this.page.getByRole("textbox", { name: label, exact: true }).focus();
    await this.page.keyboard.insertText(text);
  }

  /** The id under which the others see a person, as this page knows it. */
  userOf(name) {
    const button = this.page.locator(".nodes button").filter({ has: this.page.getByText(name, { exact: true }) });
    return button.evaluate((button) => button.dataset.focus.replace("person-", ""));
  }

  problem() {
    return this.page.getByRole("alert").innerText();
  }

  message(text) {
    return this.page.getByRole("log").getByText(text, { exact: true });
  }

  /** The texts of all messages in the open conversation, from top to bottom. */
  texts() {
    return this.page.getByRole("log").locator(".message .bubble p").allInnerTexts();
  }

  /** Every byte of a picture that is shown. */
  async picture(name) {
    const shown = this.page.getByAltText(name);
    await shown.waitFor();
    return Buffer.from(await shown.evaluate(async (image) => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]));
  }

  /** A line of the page itself between the messages. */
  notice(text) {
    return this.page.locator(".notice").getByText(text);
  }

  switchNode(port, verb) {
    return this.page.getByRole("button", { name: `${verb} node ${port}` }).click();
  }

  /** What stands below an own message. */
  stateOf(text, state) {
    return this.page.getByRole("log").getByRole("listitem").filter({ hasText: text }).getByText(state);
  }

  conversation(name) {
    return this.page.getByRole("navigation", { name: "Conversations" }).getByRole("button", { name });
  }

  async enterRoom(name) {
    await this.page.getByLabel("Name of the new room").fill(name);
    await this.page.getByRole("button", { name: "Create or enter this room" }).click();
    await this.page.getByRole("heading", { name: `# ${name}` }).waitFor();
  }

  node(port) {
    return this.page.locator(".node").filter({ has: this.page.getByRole("heading", { name: `Node ${port}` }) });
  }

  personOn(port, name) {
    return this.node(port).getByText(new RegExp(`^${name}( \\(you\\))?$`));
  }

  screenshot(name) {
    return this.page.screenshot({ path: join(process.env.SCREENSHOTS ?? tmpdir(), name) });
  }

  #text() {
    return this.page.getByRole("textbox", { name: "Message", exact: true });
  }
}
