// Clusters with the admin page, and the official page as a person uses it.

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { startBroker } from "../interop/cluster.js";
import { trunklineUrl } from "../interop/transports.js";
import { start } from "../program.js";

export const USERNAME = "admin";
export const PASSWORD = "changeit";
// Of that password; cheap, because debug builds are slow.
export const HASH = "$2b$06$L2d74A5YhEJAZ2D1w1w24ew7TCGvuexpk62hLH1r/3QeN3/l2EbIS";

const PEER = fileURLToPath(new URL("../../peers/peer.js", import.meta.url));
const PAGE = join(dirname(createRequire(import.meta.url).resolve("@socket.io/admin-ui")), "../ui/dist");

/** Two Rust servers, and a Node.js server with `instrument()` in development mode, over one broker. */
export class AdminCluster {
  static async start(transport, hash, { sharesSessions = false } = {}) {
    const cluster = new AdminCluster();
    cluster.broker = await startBroker(transport);
    const url = trunklineUrl(transport, cluster.broker.result);
    const rust = (id) => {
      const sessions = sharesSessions ? ["--sessions", cluster.broker.result] : [];
      const options = ["--broker", url, "--server-id", id, "--development", "--page", PAGE, "--password-hash", hash, ...sessions];
      return start(process.env.ADMIN, options, JSON.parse);
    };
    // The first makes the tables.
    cluster.servers = { "rust-a": await rust("rust-a") };
    const instrument = {
      auth: { type: "basic", username: USERNAME, password: hash },
      serverId: "node-c",
      ...(sharesSessions ? { store: cluster.broker.result } : {}),
    };
    const node = ["--transport", transport.name, "--url", cluster.broker.result, "--index", "1", "--instrument", JSON.stringify(instrument)];
    const [rustB, nodeC] = await Promise.all([rust("rust-b"), start(process.execPath, [PEER, ...node], JSON.parse)]);
    Object.assign(cluster.servers, { "rust-b": rustB, "node-c": nodeC });
    return cluster;
  }

  url(server) {
    return this.servers[server].result.nodes[0];
  }

  /** A client of a server, once that has greeted it. */
  async client(server, options = {}) {
    const socket = io(this.url(server), { transports: ["websocket"], forceNew: true, reconnection: false, ...options });
    await new Promise((resolve, reject) => {
      socket.once("welcome", resolve).once("ready", resolve);
      socket.once("connect_error", reject);
    });
    return socket;
  }

  async stop() {
    await Promise.all(Object.values(this.servers ?? {}).map((server) => server.stop()));
    await this.broker?.stop();
  }
}

/** The official page. */
export class AdminPage {
  constructor(page, screenshots) {
    this.page = page;
    this.screenshots = screenshots;
  }

  async open(url) {
    await this.page.goto(url);
  }

  async logIn(url, password) {
    await this.page.getByLabel("Server URL").fill(url);
    await this.page.getByLabel("Username").fill(USERNAME);
    await this.page.getByLabel("Password").fill(password);
    await this.page.getByRole("button", { name: "Connect" }).click();
  }

  /** A view of the page: `servers`, `sockets`, `rooms`, `clients`, `events`; without a name the dashboard. */
  async view(name) {
    await this.page.evaluate((name) => (location.hash = name ? `#/${name}/` : "#/"), name);
  }

  /** The row of a table with these words. */
  row(...words) {
    return words.reduce((rows, word) => rows.filter({ hasText: word }), this.page.locator("tbody tr"));
  }

  /** The button of a row, by its icon. */
  button(row, icon) {
    return row.locator(`button:has(.mdi-${icon})`);
  }

  async screenshot(name) {
    if (this.screenshots) await this.page.screenshot({ animations: "disabled", path: join(this.screenshots, `${name}.png`) });
  }
}
