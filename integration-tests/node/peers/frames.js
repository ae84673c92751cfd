// What the wires of RabbitMQ and NATS share: names, and the frames in which they carry cluster messages: version, sender, number, then each message behind its length. A message is
// JSON, or MessagePack if there is binary in it.

import { randomBytes } from "node:crypto";
import { decode, encode } from "@msgpack/msgpack";

const VERSION = 1;
const HEADER = 1 + 8 + 8;

/** Numbers its frames, so that receivers can drop one that was sent twice. */
export class Sender {
  #id = randomBytes(8);
  #number = 0n;

  /** A frame with one message. */
  frame(message) {
    this.#number += 1n;
    const head = Buffer.alloc(HEADER + 4);
    const body = hasBinary(message.data) ? encode(message, { ignoreUndefined: true }) : Buffer.from(JSON.stringify(message));
    head.writeUInt8(VERSION);
    this.#id.copy(head, 1);
    head.writeBigUInt64BE(this.#number, 9);
    head.writeUInt32BE(body.length, HEADER);
    return Buffer.concat([head, body]);
  }
}

/** The messages of a frame; none of one that cannot be understood. */
export function* openFrame(data) {
  const frame = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (frame.length < HEADER || frame[0] !== VERSION) return;
  for (let at = HEADER; at + 4 <= frame.length; ) {
    const end = at + 4 + frame.readUInt32BE(at);
    if (end > frame.length) return;
    const body = frame.subarray(at + 4, end);
    yield body[0] === BRACE ? JSON.parse(body) : decode(body);
    at = end;
  }
}

/** Text as one token of a subject or one word of a routing key. */
export function token(text) {
  const escaped = [...Buffer.from(text)].map((byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9_-]/.test(character) ? character : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  });
  return escaped.join("") || "=";
}

function hasBinary(value) {
  if (value === null || typeof value !== "object") return false;
  if (ArrayBuffer.isView(value)) return true;
  return Object.values(value).some(hasBinary);
}

const BRACE = "{".charCodeAt(0);
