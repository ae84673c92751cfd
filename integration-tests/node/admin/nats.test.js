import { adminPage } from "../lib/admin/page.js";

adminPage("nats");
