import { allOperations } from "../lib/cases.js";

allOperations("JSON over WebSocket", { parsers: ["common"], transports: ["websocket"] });
