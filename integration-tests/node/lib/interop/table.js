// The table of cells: operations in rows, transports in columns, both directions in each field.
//
//   node lib/interop/table.js                  prints what is expected
//   node lib/interop/table.js --results FOLDER  prints what a run has found there
//   node lib/interop/table.js --write          writes docs/interop.md

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { cells } from "./cells.js";
import { directions } from "./directions.js";
import { exceptionOf, exceptions } from "./exceptions.js";
import { transports } from "./transports.js";

export const DOCUMENT = fileURLToPath(new URL("../../../../docs/interop.md", import.meta.url));

/** The document with its table as it is expected. */
export async function expectedDocument() {
  const text = await readFile(DOCUMENT, "utf8");
  const [before, , after] = text.split(/<!-- table(?: ends)? -->\n/);
  return `${before}<!-- table -->\n${table()}<!-- table ends -->\n${after}`;
}

/** @param outcomes what a run has found: transport → direction → cell → whether it works; without, every cell works but the exceptions */
export function table(outcomes) {
  const names = Object.keys(transports);
  const field = (cell, transport) => {
    const [there, back] = Object.keys(directions).map((direction) => mark(cell, transport, direction, outcomes));
    return `${there} ${back}`;
  };
  const rows = cells.map(({ name }) => [name, ...names.map((transport) => field(name, transport))]);
  const head = ["operation", ...names.map((transport) => transports[transport].title)];
  const lines = [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`);
  const whys = reasons().map((why, index) => `${index + 1}. ${why}`);
  return `${lines.join("\n")}\n\n${whys.join("\n")}\n`;
}

function mark(cell, transport, direction, outcomes) {
  const why = exceptionOf(cell, transport, direction);
  if (why) return `(${reasons().indexOf(why) + 1})`;
  const works = outcomes ? outcomes[transport]?.[direction]?.[cell] : true;
  return works === undefined ? "?" : works ? "✓" : "✗";
}

/** The reasons of the exceptions that apply, as the footnotes number them. */
function reasons() {
  const applying = exceptions.filter((exception) => exception.transports.some((transport) => transport in transports));
  return [...new Set(applying.map(({ why }) => why))];
}

async function outcomesIn(folder) {
  const read = async (transport) => JSON.parse(await readFile(join(folder, `${transport}.json`), "utf8").catch(() => "{}"));
  return Object.fromEntries(await Promise.all(Object.keys(transports).map(async (transport) => [transport, await read(transport)])));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { results: { type: "string" }, write: { type: "boolean", default: false } } });
  if (values.write) await writeFile(DOCUMENT, await expectedDocument());
  else console.log(table(values.results ? await outcomesIn(values.results) : undefined));
}
