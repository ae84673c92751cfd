// Minutes in a mixed cluster, for each transport: see --help. `just soak` builds what it needs first.

import { parseArgs } from "node:util";
import { transport, transports } from "../lib/interop/transports.js";
import { soak } from "../lib/soak/soak.js";

const USAGE = `Usage: just soak [TRANSPORT]... [--minutes N] [--rate N] [--help]

One Rust node and two Node.js nodes with the official adapters (on RabbitMQ and NATS with those in integration-tests/node/peers) over a private
broker, with clients of each: numbered messages from every node to all clients, requests of every node, all operations of docs/interop.md in
both directions. Every half minute a node leaves, stopped or killed in turn, and comes back. The run fails if a server printed a complaint, if a
request failed or timed out, if a message was lost, repeated, changed or out of order (as far as the transport keeps it), or if a server counted a
wrong number of servers while that number stood still. Heartbeats have their usual intervals.

  TRANSPORT     ${Object.keys(transports).join(", ")};
                redis means the three on Redis; without any, all of them, one after the other
  --minutes N   how long, for each transport (2)
  --rate N      how many numbered messages each node emits in a second (40)
  --help        print this text`;

async function main() {
  const { values, positionals } = parsed();
  if (values.help) return console.log(USAGE);
  const plan = planOf(values);
  const names = positionals.length > 0 ? positionals.flatMap(namesOf) : Object.keys(transports);
  const results = [];
  for (const name of names) {
    console.log(`${name}: ${values.minutes} minutes`);
    const result = await soak(transport(name), plan, (result) => console.log(`${name}  ${summary(result)}`));
    result.problems.forEach((problem) => console.log(`${name}: PROBLEM ${problem}`));
    results.push([name, result]);
  }
  console.log(`\n${table(results)}`);
  process.exitCode = results.every(([, { problems }]) => problems.length === 0) ? 0 : 1;
}

function parsed() {
  const options = {
    minutes: { type: "string", default: "2" },
    rate: { type: "string", default: "40" },
    help: { type: "boolean", short: "h", default: false },
  };
  try {
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    return refuse(error.message);
  }
}

function planOf({ minutes, rate }) {
  if (!(Number(minutes) > 0)) refuse("--minutes needs a number above 0");
  if (!(Number(rate) > 0 && Number(rate) <= 1000)) refuse("--rate needs a number from 1 to 1000");
  return { milliseconds: minutes * 60_000, perSecond: Number(rate), untilDeparture: 25_000, untilReturn: 5_000, heartbeatInterval: 5_000 };
}

function namesOf(name) {
  const names = Object.keys(transports).filter((known) => known === name || (name === "redis" && known.startsWith("redis-")));
  return names.length > 0 ? names : refuse(`there is no transport '${name}' (see --help)`);
}

function refuse(message) {
  console.error(`soak: ${message}`);
  process.exit(2);
}

function summary({ seconds, servers, received, requests, operations, departures, problems }) {
  const minutes = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  const done = `${received} messages received, ${requests} requests, ${operations} operations, ${departures} departures`;
  return `${minutes}  ${servers} servers, ${done}, ${problems.length} problems`;
}

function table(results) {
  const columns = ["emitted", "received", "requests", "operations", "departures"];
  const rows = results.map(([name, result]) => [
    name,
    (result.seconds / 60).toFixed(1),
    ...columns.map((column) => result[column]),
    result.problems.length,
  ]);
  const head = ["transport", "minutes", ...columns, "problems"];
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

await main();
