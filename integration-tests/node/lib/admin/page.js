// What the official page shows and does, on a cluster of two Rust servers and one Node.js server. Each file admin/NAME.test.js tries it over
// one broker, in a process of its own.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AdminCluster, AdminPage, HASH, PASSWORD } from "./cluster.js";
import { openBrowser } from "../chat.js";
import { transport } from "../interop/transports.js";

/**
 * @param name of a transport of transports.js
 * @param sharesSessions whether the servers keep sessions of pages in the broker, a Redis
 */
export function adminPage(name, { sharesSessions = false } = {}) {
  describe(`the official admin page over ${transport(name).title}`, { concurrency: false, timeout: 120_000 }, () => {
    let cluster, browser, page, clients;

    before(async () => {
      [cluster, browser] = await Promise.all([AdminCluster.start(transport(name), HASH, { sharesSessions }), openBrowser()]);
      page = new AdminPage(browser.context.pages()[0], process.env.SCREENSHOTS);
      clients = {};
      for (const server of ["rust-a", "rust-b", "node-c"]) clients[server] = await cluster.client(server);
    });

    after(async () => {
      Object.values(clients ?? {}).forEach((client) => client.close());
      await browser?.close();
      await cluster?.stop();
    });

    const shot = (what) => page.screenshot(`admin-${name}-${what}`);

    test("a wrong password is refused, and costs time", async () => {
      await page.open(cluster.url("rust-a"));
      const began = Date.now();
      await page.logIn(cluster.url("rust-a"), "wrong");
      await page.page.getByText("Invalid credentials").waitFor();
      assert.ok(Date.now() - began >= 1000);
      await shot("refused");
    });

    test("the right one shows all servers", async () => {
      await page.logIn(cluster.url("rust-a"), PASSWORD);
      await page.view("servers");
      for (const server of Object.keys(cluster.servers)) await page.row(server, "Healthy").waitFor();
      // Each has a client, and one has the page.
      for (const [server, count] of Object.entries({ "rust-a": 2, "rust-b": 1, "node-c": 1 })) {
        await page.page.waitForFunction(
          ([server, count]) => [...document.querySelectorAll("tbody tr")].some(({ cells }) => cells[0].innerText === server && cells[4].innerText === count),
          [server, String(count)],
        );
      }
      await shot("servers");
      await page.view();
      for (const [namespace, sockets] of [["/admin", "1"], ["/other", "0"]]) await page.row(namespace, sockets).waitFor();
      await page.row("Unhealthy", "0.0 %").waitFor();
      await shot("dashboard");
    });

    test("sockets of all servers are listed, with their handshakes", async () => {
      await page.view("sockets");
      for (const client of Object.values(clients)) await page.row(client.id, "WebSocket").waitFor();
      await shot("sockets");
      await page.row(clients["rust-b"].id).click();
      await page.page.getByText("Initial HTTP request").waitFor();
      await page.row("user-agent").or(page.row("sec-websocket-version")).first().waitFor();
      await page.row("EIO", "4").waitFor();
      await page.row("IP address", "127.0.0.1").waitFor();
      await shot("socket");
    });

    test("a client that comes and enters a room appears without a reload", async () => {
      const late = await cluster.client("rust-b");
      late.emit("join", "garden");
      await page.view("rooms");
      await page.row("garden", "1").waitFor();
      await page.row("lobby", "3").waitFor();
      await shot("rooms");
      await page.view("events");
      await page.row(late.id, "Connection").waitFor();
      await page.row(late.id, "Event name").filter({ hasText: "join" }).waitFor();
      await page.row(late.id, "garden").first().waitFor();
      await shot("events");
      late.close();
      await page.row(late.id, "transport close").or(page.row(late.id, "client namespace disconnect")).first().waitFor();
    });

    test("the page moves and disconnects sockets of every server", async () => {
      for (const server of ["rust-b", "node-c"]) {
        const client = clients[server];
        // It has none once it is disconnected.
        const { id } = client;
        await page.view("sockets");
        await page.row(id).click();
        await page.page.getByLabel("Join a room").fill(`from-page-${server}`);
        await page.button(page.page, "tag-plus-outline").click();
        await page.row(`from-page-${server}`).first().waitFor();
        const ended = new Promise((resolve) => client.once("disconnect", resolve));
        await page.view("sockets");
        await page.button(page.row(id, "WebSocket"), "logout").click();
        assert.equal(await ended, "io server disconnect");
        // A click on a row's button is one on the row, too.
        await page.row("Status", "disconnected").first().waitFor();
        await shot(`disconnected-${server}`);
        await page.view("sockets");
        await page.row(clients["rust-a"].id, "WebSocket").waitFor();
        assert.equal(await page.row(id, "WebSocket").count(), 0);
      }
    });

    test("a server that is killed is shown as unhealthy, the others are not", async () => {
      await cluster.servers["rust-b"].stop("SIGKILL");
      await page.view("servers");
      await page.row("rust-b", "Unhealthy").waitFor();
      for (const server of ["rust-a", "node-c"]) await page.row(server, "Healthy").waitFor();
      await shot("killed");
    });

    // Only Redis has the store that they share.
    if (sharesSessions) {
      test("a session is known to the Node.js server", async () => {
        // The same page, of another server.
        await page.page.evaluate((url) => localStorage.setItem("server_url", url), cluster.url("node-c"));
        await page.page.evaluate(() => localStorage.setItem("ws_only", "true"));
        await page.page.reload();
        await page.view("sockets");
        await page.row(clients["rust-a"].id, "WebSocket").waitFor();
        await page.view("servers");
        // The Rust server looks for pages of Node.js servers now and then.
        for (const server of ["rust-a", "node-c"]) await page.row(server, "Healthy").waitFor();
        await shot("node");
      });
    }

    test("neither the page nor a server has complained", () => {
      assert.deepEqual(browser.errors, []);
      for (const server of ["rust-a", "node-c"]) assert.deepEqual(cluster.servers[server].complaints, []);
    });
  });
}
