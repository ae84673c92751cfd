// Writes entries as @socket.io/redis-streams-emitter 0.1 does, into the one stream that it is told: without a sender, server-side events
// too, and what has binary in it as MessagePack in base64.

import { encode } from "@msgpack/msgpack";
import { Emitter } from "./emitter.js";

export function createStreamsEmitter(client, namespace, stream) {
  const publish = ({ type, data, nsp }) => {
    if (data.packet?.data) data.packet.nsp = nsp;
    const text = hasBinary(data) ? Buffer.from(encode(data)).toString("base64") : JSON.stringify(data);
    append(client, stream, { nsp, type: String(type), data: text }).catch((error) => console.error("a publish failed:", error));
  };
  return new Emitter(publish, namespace);
}

/** With node-redis or ioredis. */
function append(client, stream, fields) {
  return client.sSubscribe ? client.xAdd(stream, "*", fields) : client.xadd(stream, "*", ...Object.entries(fields).flat());
}

function hasBinary(value) {
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return true;
  return typeof value === "object" && value !== null && Object.values(value).some(hasBinary);
}
