// How each balancer is started, told of other nodes, and told to drain one. The files are those of docker/balancers/.

import { connect } from "node:net";
import { join } from "node:path";

/**
 * By name:
 * - `files(folder, configured)`: texts by name
 * - `command(folder)`
 * - `reload(child, folder)`: makes it read its files again
 * - `drained(text, name, port, node)`: the text of the file with that node draining
 * - `add(child, folder, node, port)`, `drain(child, folder, node)`: where that is done in another way than by files and a reload
 * - `remembers`: whether it keeps the node of a client without cookies when nodes come and go
 * - `drainsAtOnce`: whether the clients that poll leave a draining node at once
 * - `hasFixedRing`: whether keys of other nodes move, too, when a node ends
 */
export const kinds = {
  nginx: nginx("nginx.conf", process.env.NGINX_CURRENT, true, (text, name, port) => marked(text, `server 127.0.0.1:${port} `, " drain;")),
  "nginx-1.22": nginx("nginx-1.22.conf", "/usr/sbin/nginx", false, (text, name, port) => marked(text, `server 127.0.0.1:${port} max_fails`, " down;")),
  haproxy: {
    program: "/usr/sbin/haproxy",
    remembers: true,
    files: async (folder, configured) => ({
      "haproxy.cfg": (await configured("haproxy.cfg")).replaceAll("/run/haproxy/admin.sock", join(folder, "admin.sock")),
    }),
    command: (folder) => ["/usr/sbin/haproxy", "-W", "-f", join(folder, "haproxy.cfg")],
    add: (child, folder, node, port) => toldOfServer(folder, node, [`addr 127.0.0.1 port ${port}`, "state ready"]),
    drain: (child, folder, node) => toldOfServer(folder, node, ["state drain"]),
  },
  apache: {
    program: "/usr/sbin/apache2",
    remembers: false,
    async files(folder, configured) {
      const modules = APACHE_MODULES.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`);
      const apache = (await configured("apache.conf")).replace("/etc/apache2/apache-slots.txt", join(folder, "apache-slots.txt"));
      const root = ["ServerName localhost", `ServerRoot ${folder}`];
      const frame = [...root, `DefaultRuntimeDir ${folder}`, `PidFile ${folder}/pid`, 'ErrorLog "|$/bin/cat 1>&2"', ...AS_ROOT];
      return {
        "httpd.conf": [...modules, ...frame, apache].join("\n"),
        // Not as `configured` would copy it: a new node gets one slot of each.
        "apache-slots.txt": slots(await configured("apache-slots.txt")),
      };
    },
    command: (folder) => ["/usr/sbin/apache2", "-D", "FOREGROUND", "-f", join(folder, "httpd.conf")],
    reload: (child) => child.kill("SIGUSR1"),
    drained(text, name, port, node) {
      if (name === "apache-slots.txt") return text.replaceAll(`node-${node}`, "node-a");
      return text.replace(new RegExp(`^( *BalancerMember "http://127.0.0.1:${port}".*)$`, "gm"), "$1 status=+N");
    },
  },
  traefik: {
    program: process.env.TRAEFIK,
    remembers: false,
    drainsAtOnce: true,
    async files(folder, configured) {
      return {
        "traefik.yml": (await configured("traefik.yml")).replace("/etc/traefik", folder),
        "traefik-routes.yml": await configured("traefik-routes.yml"),
      };
    },
    command: (folder) => [process.env.TRAEFIK, `--configFile=${join(folder, "traefik.yml")}`],
    // It sees itself that a file has changed.
    reload() {},
    drained(text, name, port, node) {
      const lines = text.split("\n").filter((line) => !line.includes(`- { url: "http://127.0.0.1:${port}" }`));
      return lines.join("\n").replaceAll(`service: node-${node}-or-another`, "service: node-a-or-another");
    },
  },
  envoy: {
    program: process.env.ENVOY,
    remembers: false,
    hasFixedRing: true,
    async files(folder, configured) {
      return {
        "envoy.yaml": (await configured("envoy.yaml")).replace("/etc/envoy", folder),
        "envoy-nodes.yaml": await configured("envoy-nodes.yaml"),
      };
    },
    // Other instances of this machine have shared memory of the same number otherwise.
    command: (folder) => [process.env.ENVOY, "-c", join(folder, "envoy.yaml"), "--log-level", "warn", "--concurrency", "2", "--disable-hot-restart"],
    reload() {},
    drained: (text, name, port) => text.replace(new RegExp(`(port_value: ${port} .*)UNKNOWN`), "$1DRAINING"),
  },
};

const APACHE_MODULES = [
  "mpm_event", "authz_core", "proxy", "proxy_http", "slotmem_shm", "proxy_balancer", "lbmethod_byrequests",
  "lbmethod_bybusyness", "proxy_hcheck", "headers", "rewrite", "remoteip", "env", "setenvif",
];
const AS_ROOT = process.getuid() === 0 ? ["User www-data", "Group www-data"] : [];

function nginx(file, program, remembers, drained) {
  return {
    program,
    remembers,
    drained,
    async files(folder, configured) {
      // Only so that it starts without rights to its usual folders.
      const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`);
      return { "nginx.conf": (await configured(file)).replace("http {", `http { ${paths.join(" ")}`) };
    },
    command: (folder) => [program, "-p", folder, "-c", join(folder, "nginx.conf"), "-g", `daemon off; pid ${folder}/pid;`],
    reload: (child) => child.kill("SIGHUP"),
  };
}

/** The lines with `start` get `mark` in place of their last semicolon. */
function marked(text, start, mark) {
  return text.split("\n").map((line) => (line.includes(start) && line.endsWith(";") ? line.replace(/;$/, mark) : line)).join("\n");
}

function slots(text) {
  if (!text.includes("node-d")) return text;
  const given = new Set(["3", "7", "b", "f"]);
  const lines = text.split("\n").filter((line) => !line.includes("node-d"));
  return lines.map((line) => (given.has(line.split(" ")[0]) ? `${line[0]} node-d` : line)).join("\n");
}

async function toldOfServer(folder, node, settings) {
  for (const backend of ["by_cookie", "by_key", "websocket"]) {
    for (const setting of settings) await told(join(folder, "admin.sock"), `set server ${backend}/node-${node} ${setting}`);
  }
}

/** Tells HAProxy a command over its admin socket; resolves with the answer. */
function told(path, command) {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => socket.end(`${command}\n`));
    const parts = [];
    socket.on("data", (part) => parts.push(part));
    socket.once("end", () => resolve(String(Buffer.concat(parts)).trim()));
    socket.once("error", reject);
  });
}
