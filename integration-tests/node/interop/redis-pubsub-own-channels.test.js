import { mixedCluster } from "../lib/interop/run.js";
import { transport } from "../lib/interop/transports.js";

mixedCluster(
  transport("redis-pubsub", {
    title: "answers on channels of their own",
    options: { specific_response_channel: "on" },
  }),
);
