// Starting a program of this repository and reading what it prints.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** Starts `file` and resolves with it when it has printed a line that `wanted` answers with something. */
export async function start(file, options, wanted) {
  const child = spawn(file, options, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const ended = once(child, "exit");
  // Nobody waits for the end of a program that has not even started.
  ended.catch(() => {});
  for await (const line of lines) {
    const result = wanted(line);
    if (result === undefined) continue;
    // What it prints later must not fill the pipe.
    child.stdout.resume();
    return { result, stop: () => stop(child, ended) };
  }
  const [code] = await ended;
  throw new Error(`${file} ${options.join(" ")} ended with ${code} before it was ready`);
}

async function stop(child, ended) {
  child.kill("SIGTERM");
  await ended;
}
