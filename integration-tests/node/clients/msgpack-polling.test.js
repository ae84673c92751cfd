import { allOperations } from "../lib/cases.js";

allOperations("MessagePack over HTTP long-polling", { parsers: ["msgpack"], transports: ["polling"] });
