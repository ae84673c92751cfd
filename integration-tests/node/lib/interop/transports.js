// The transports on which Rust and Node.js nodes form clusters, in the order of the table. The names that both sides must agree on are not
// the defaults; the Node.js side has them in peers/connections.js.

export const transports = {
  "redis-pubsub": {
    title: "Redis pub/sub",
    broker: "redis",
    hasEmitter: true,
    options: { mode: "pubsub", prefix: "interop" },
  },
  "redis-streams": {
    title: "Redis streams",
    broker: "redis",
    options: { mode: "streams", prefix: "interop", stream: "interop-stream", session_prefix: "interop:session:" },
  },
  postgres: {
    title: "PostgreSQL",
    broker: "postgres",
    hasEmitter: true,
    options: { channel_prefix: "interop", table: "interop_attachments" },
  },
  nats: { title: "NATS", broker: "nats", hasEmitter: true, options: { prefix: "interop" } },
  rabbitmq: { title: "RabbitMQ", broker: "rabbitmq", hasEmitter: true, options: { prefix: "interop" } },
};

/** What `trunkline::connect` is given. */
export function trunklineUrl({ database, options }, broker) {
  const url = new URL(broker);
  if (database) url.pathname = database;
  for (const [name, value] of Object.entries(options)) url.searchParams.set(name, value);
  return url.href;
}
