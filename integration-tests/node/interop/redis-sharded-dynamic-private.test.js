import { mixedCluster } from "../lib/interop/run.js";
import { transport } from "../lib/interop/transports.js";

mixedCluster(
  transport("redis-sharded", {
    title: "subscriptions for private rooms too",
    options: { subscription: "dynamic-private" },
    node: { subscriptionMode: "dynamic-private" },
  }),
);
