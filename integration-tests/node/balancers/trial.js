// Balancers one after the other, a minute each: see --help. `just balancers` builds what it needs first.

import { parseArgs } from "node:util";
import { kinds } from "../lib/balancers/kinds.js";
import { trial } from "../lib/balancers/trial.js";

const USAGE = `Usage: just balancers [BALANCER]... [--polling N] [--seconds N] [--help]

Clients behind a balancer with its configuration of docker/balancers/, while a node is added, drained, stopped and killed.

  BALANCER      ${Object.keys(kinds).join(", ")}; without any, all that are there, one after the other
  --polling N   clients that only poll (300); of each other kind there are a fifth as many
  --seconds N   how long it lasts at least, for each balancer (60)
  --help        print this text`;

const options = {
  polling: { type: "string", default: "300" },
  seconds: { type: "string", default: "60" },
  help: { type: "boolean", short: "h", default: false },
};
const { values, positionals } = parseArgs({ options, allowPositionals: true });
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
const unknown = positionals.find((name) => !kinds[name]);
if (unknown) {
  console.error(`balancers: there is no '${unknown}' (see --help)`);
  process.exit(2);
}
const names = positionals.length > 0 ? positionals : Object.keys(kinds).filter((name) => kinds[name].program);
for (const name of names) {
  console.log(name);
  // Five steps, with as much time after each.
  const plan = { polling: Number(values.polling), calm: (Number(values.seconds) * 1000) / 5, beat: 1000, late: 60_000 };
  try {
    console.log(`  ${JSON.stringify(await trial(kinds[name], plan, (line) => console.log(`  ${line}`)))}`);
  } catch (error) {
    console.error(`  FAILED: ${error.message}`);
    process.exitCode = 1;
  }
}
