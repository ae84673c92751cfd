import { allOperations } from "../lib/cases.js";

// Each node speaks its own parser with its clients: what crosses the cluster is converted where it has to be.
allOperations("nodes with different parsers", { parsers: ["common", "msgpack", "common"], transports: ["websocket"] });
