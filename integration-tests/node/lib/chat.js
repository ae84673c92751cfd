// The chat example and browsers that look at it.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { start } from "./program.js";

/** Starts the chat on free ports; resolves with the ports of its nodes. */
export async function startChat(nodes) {
  const ports = [];
  const program = await start(process.env.CHAT, ["--ports", "0", "--nodes", String(nodes)], (line) => {
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
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
    viewport: { width: 1280, height: 800 },
    ...options,
  });
  context.setDefaultTimeout(20_000);
  return {
    context,
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** Opens the page of a node and enters under a name. */
export async function enter(context, port, name) {
  const page = context.pages().find((page) => page.url() === "about:blank") ?? (await context.newPage());
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.getByRole("textbox", { name: "Nickname" }).fill(name);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText(`on node ${port}`, { exact: true }).waitFor();
  return page;
}
