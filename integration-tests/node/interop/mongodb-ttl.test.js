import { broadcastCells } from "../lib/interop/cells/broadcasts.js";
import { sessionCells } from "../lib/interop/cells/sessions.js";
import { mixedCluster } from "../lib/interop/run.js";
import { transport } from "../lib/interop/transports.js";

mixedCluster(
  transport("mongodb", {
    title: "a TTL index",
    options: { capped_bytes: undefined, ttl: "10m" },
    node: { addCreatedAtField: true },
  }),
  [...broadcastCells, ...sessionCells],
);
