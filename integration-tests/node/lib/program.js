// Starting a program of this repository and reading what it prints.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const running = new Set();
// Whatever ends this process, nothing it has started stays behind.
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")));
process.once("SIGTERM", () => process.exit(143));

/** Starts `file` and resolves when `wanted` has answered one of its lines with a result. What it complains about is shown and kept. */
export async function start(file, options, wanted) {
  const child = spawn(file, options, { stdio: ["pipe", "pipe", "pipe"] });
  const complaints = [];
  createInterface({ input: child.stderr }).on("line", (line) => {
    complaints.push(line);
    console.error(line);
  });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const ended = once(child, "exit");
  let stopping = false;
  child.once("exit", (code, signal) => {
    if (!stopping) complaints.push(`ended by itself: ${signal ?? code}`);
  });
  // It is awaited by whoever stops the program; a failure to start is thrown below.
  ended.catch(() => {});
  const result = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`${file} ${options.join(" ")} ended with ${code} before it was ready`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const result = wanted(line);
      if (result !== undefined) resolve(result);
    });
  });
  return {
    result,
    complaints,
    /** Resolves with the exit status. */
    async stop(signal = "SIGTERM") {
      stopping = true;
      child.kill(signal);
      const [status] = await ended;
      return status;
    },
  };
}
