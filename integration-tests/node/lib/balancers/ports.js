// Ports that stay reserved while a program behind them stops and starts again.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

// As in the crate trunkline-brokers: below the kernel's ephemeral ports, each locked by a file of its number.
const FIRST = 20_000;
const LAST = 32_000;
const FOLDER = join(tmpdir(), "trunkline-ports");

/** Reserves so many loopback ports until this process ends. */
export async function reservePorts(count) {
  await mkdir(FOLDER, { recursive: true });
  const ports = [];
  for (let tries = 0; ports.length < count; tries += 1) {
    if (tries > 1000) throw new Error("there are no free ports");
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if ((await isLocked(port)) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

/** The lock ends with the program that holds it, which ends with this process: its input is closed then. */
async function isLocked(port) {
  const holder = spawn("flock", ["-n", join(FOLDER, String(port)), "sh", "-c", "echo locked; cat"], { stdio: ["pipe", "pipe", "ignore"] });
  const locked = await Promise.race([once(holder.stdout, "data").then(() => true), once(holder, "exit").then(() => false)]);
  [holder, holder.stdin, holder.stdout].forEach((handle) => handle.unref?.());
  return locked;
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
