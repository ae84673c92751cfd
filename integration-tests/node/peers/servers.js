// What goes on between the servers, as on the Rust test nodes: `notice` is passed on to the clients of this server, `question` is answered,
// `never` is not.

/** Returns what it has seen: every number of servers this one has counted since `watch`. */
export function listenToServers(namespace, index) {
  namespace.on("notice", (...args) => namespace.local.emit("notice", ...args));
  namespace.on("question", (...args) => {
    const answer = args.pop();
    answer([index, args]);
  });
  namespace.on("never", () => {});
  const seen = new Set();
  let watching;
  return {
    namespace: namespace.name,
    seen,
    watch() {
      seen.clear();
      watching ??= setInterval(async () => seen.add(await namespace.adapter.serverCount()), 100).unref();
    },
  };
}
