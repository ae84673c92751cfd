import { allOperations } from "../lib/cases.js";

allOperations("MessagePack over WebSocket", { parsers: ["msgpack"], transports: ["websocket"] });
