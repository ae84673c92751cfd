import { mixedCluster } from "../lib/interop/run.js";

mixedCluster("rabbitmq");
