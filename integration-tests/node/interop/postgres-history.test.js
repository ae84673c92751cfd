import { mixedCluster } from "../lib/interop/run.js";
import { transport } from "../lib/interop/transports.js";

mixedCluster(
  transport("postgres", {
    title: "the Rust node keeps a history",
    options: { history: "on" },
  }),
);
