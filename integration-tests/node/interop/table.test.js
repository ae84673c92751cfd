import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { cells } from "../lib/interop/cells.js";
import { exceptions } from "../lib/interop/exceptions.js";
import { DOCUMENT, expectedDocument } from "../lib/interop/table.js";

test("docs/interop.md shows the table of cells (node lib/interop/table.js --write)", async () => {
  assert.equal(await readFile(DOCUMENT, "utf8"), await expectedDocument());
});

test("every exception names cells that exist", () => {
  const names = new Set(cells.map(({ name }) => name));
  for (const name of exceptions.flatMap((exception) => exception.cells)) assert.ok(names.has(name), name);
  assert.equal(names.size, cells.length);
});
