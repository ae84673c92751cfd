import { mixedCluster } from "../lib/interop/run.js";
import { transport } from "../lib/interop/transports.js";

mixedCluster(
  transport("redis-pubsub", {
    title: "subscriptions to rooms",
    options: { subscription: "rooms" },
  }),
);
