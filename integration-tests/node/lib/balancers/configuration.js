// The files of docker/balancers/ with the addresses of a test in place of theirs.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const FOLDER = new URL("../../../../docker/balancers/", import.meta.url);

export function pathOf(file) {
  return fileURLToPath(new URL(file, FOLDER));
}

/**
 * The text of a file for these nodes.
 * @param nodes ports by letter, for example { a: 20001, b: 20002, c: 20003 }; for `d`, what is said of `c` is said again
 * @param ports of the balancer: { http, proxy, peers }
 */
export async function configured(file, nodes, ports) {
  // Envoy has addresses and ports apart.
  let text = (await readFile(pathOf(file), "utf8")).replace(/address: ([0-9.]+), port_value: (\d+)/g, "address: $1:$2");
  if (nodes.d && !text.includes(ADDRESSES.d)) text = text.replace(OF_C, (line) => `${line}\n${ofD(line)}`);
  for (const [node, address] of Object.entries(ADDRESSES)) {
    text = text.replaceAll(address, `127.0.0.1:${nodes[node] ?? nodes.c}`);
  }
  return text
    .replace(/(0\.0\.0\.0|\*):8080/g, `127.0.0.1:${ports.http}`)
    .replace(/(0\.0\.0\.0|\*):8081/g, `127.0.0.1:${ports.proxy}`)
    .replaceAll("127.0.0.1:8082", `127.0.0.1:${ports.peers}`)
    .replace(/address: ([0-9.]+):(\d+) /g, "address: $1, port_value: $2 ");
}

const ADDRESSES = { a: "10.0.0.11:3001", b: "10.0.0.12:3002", c: "10.0.0.13:3003", d: "10.0.0.14:3004" };
// A line with a node's name or address; comments name node-c as an example.
const OF_C = /^(?! *#).*(node[-_]c|10\.0\.0\.13:3003).*$/gm;

function ofD(line) {
  return line.replace(/node([-_])c/g, "node$1d").replaceAll(ADDRESSES.c, ADDRESSES.d);
}
