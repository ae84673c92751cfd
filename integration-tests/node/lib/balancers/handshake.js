// One handshake over HTTP, for what a client library does not show: cookies, headers, the PROXY protocol.

import { connect } from "node:net";

/** Opens a session by polling, with these headers and parameters; resolves with { node, id, cookie }. */
export async function handshake(url, { query = {}, headers = {} } = {}) {
  const address = new URL("/socket.io/", url);
  Object.entries({ EIO: "4", transport: "polling", ...query }).forEach(([name, value]) => address.searchParams.set(name, value));
  const opened = await fetch(address, { headers });
  const text = await opened.text();
  if (opened.status !== 200) throw new Error(`a handshake was answered with ${opened.status}: ${text}`);
  const cookie = opened.headers.get("set-cookie") ?? "";
  address.searchParams.set("sid", JSON.parse(text.slice(1)).sid);
  // As a browser: what was set goes along from now on.
  const kept = { ...headers, ...(cookie ? { cookie: cookie.split(";")[0] } : {}) };
  const session = {
    cookie,
    async send(packet) {
      const answer = await fetch(address, { method: "POST", body: packet, headers: kept });
      if (answer.status !== 200) throw new Error(`a packet was answered with ${answer.status}: ${await answer.text()}`);
    },
  };
  await session.send("40");
  let received = "";
  while (!received.includes('"ready"')) {
    const answer = await fetch(address, { headers: kept });
    if (answer.status !== 200) throw new Error(`a poll was answered with ${answer.status}: ${await answer.text()}`);
    received += await answer.text();
  }
  const [, node, id] = received.match(/\["ready",(\d+),"([^"]+)"/);
  return Object.assign(session, { node: "abcd"[Number(node)], id });
}

/** The first line of the answer to a handshake that begins with a header of the PROXY protocol, on a port that wants one. */
export function throughProxyProtocol(port, client) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.write(`PROXY TCP4 ${client} 127.0.0.1 40000 ${port}\r\n`);
      socket.write(UPGRADE);
    });
    socket.setTimeout(10_000, () => socket.destroy(new Error("no answer to a handshake with the PROXY protocol")));
    socket.once("error", reject);
    let connected = false;
    let text = "";
    socket.on("data", (part) => {
      text += part.toString("latin1");
      if (!connected && text.includes('"sid"')) {
        connected = true;
        socket.write(CONNECT);
      }
      const id = text.match(/\["ready",\d+,"([^"]+)"/)?.[1];
      if (id) resolve({ id, close: () => socket.destroy() });
    });
  });
}

const UPGRADE = [
  "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1",
  "Host: localhost",
  "Connection: Upgrade",
  "Upgrade: websocket",
  "Sec-WebSocket-Version: 13",
  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  "\r\n",
].join("\r\n");
// The text frame "40", masked with zeros.
const CONNECT = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x34, 0x30]);
