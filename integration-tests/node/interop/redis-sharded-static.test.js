import { mixedCluster } from "../lib/interop/run.js";
import { transport } from "../lib/interop/transports.js";

mixedCluster(
  transport("redis-sharded", {
    title: "static subscriptions",
    options: { subscription: "static" },
    node: { subscriptionMode: "static" },
  }),
);
