import { adminPage } from "../lib/admin/page.js";

adminPage("redis-pubsub", { sharesSessions: true });
