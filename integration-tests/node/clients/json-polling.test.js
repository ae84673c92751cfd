import { allOperations } from "../lib/cases.js";

allOperations("JSON over HTTP long-polling", { parsers: ["common"], transports: ["polling"] });
