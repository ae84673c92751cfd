// The official packages tell of what goes wrong to `debug` only, which nobody hears. Imported before them, this file lets such lines through to
// standard error, where they count as complaints, and none of the others.

process.env.DEBUG = ["adapter", "redis", "redis-streams-adapter", "mongo-adapter", "postgres-adapter"].map((name) => `socket.io-${name}`).join();

const LINE = /^\S+ socket\.io-\S+ (?:\[\w+\] )?(.*)/;
/** Messages of types that it does not know are no complaint: nodes of Trunkline have some of their own. */
const COMPLAINT = /^(error while|something went wrong|invalid format|ignoring malformed|change stream encountered)|scheduling reconnection/;

let isHushed = false;

/** Closing their connections, some of them complain that these are closed. */
export function hush() {
  isHushed = true;
}

const write = process.stderr.write.bind(process.stderr);
process.stderr.write = (text, ...others) => {
  const line = LINE.exec(text);
  return line && (isHushed || !COMPLAINT.test(line[1])) ? true : write(text, ...others);
};
