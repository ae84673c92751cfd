// The transports on which Rust and Node.js nodes form clusters, in the order of the table. The names that both sides must agree on are not
// the defaults; the Node.js side has them in peers/connections.js.

export const transports = {
  "redis-pubsub": {
    title: "Redis pub/sub",
    broker: "redis",
    hasEmitter: true,
    options: { mode: "pubsub", prefix: "interop" },
  },
  "redis-sharded": {
    title: "Redis sharded",
    broker: "redis",
    options: { mode: "sharded", prefix: "interop" },
  },
  "redis-streams": {
    title: "Redis streams",
    broker: "redis",
    hasEmitter: true,
    options: { mode: "streams", prefix: "interop", stream: "interop-stream", session_prefix: "interop:session:" },
  },
  postgres: {
    title: "PostgreSQL",
    broker: "postgres",
    hasEmitter: true,
    options: { channel_prefix: "interop", table: "interop_attachments" },
  },
  mongodb: {
    title: "MongoDB",
    broker: "mongodb",
    hasEmitter: true,
    database: "interop",
    options: { collection: "events", capped_bytes: "64MiB" },
  },
  nats: { title: "NATS", broker: "nats", hasEmitter: true, options: { prefix: "interop" } },
  rabbitmq: { title: "RabbitMQ", broker: "rabbitmq", hasEmitter: true, options: { prefix: "interop" } },
};

/**
 * A transport by its name, or a variant of it.
 * @param variant.title what is different
 * @param variant.options more options for the Rust nodes; undefined takes one away
 * @param variant.node more options for the adapters of the Node.js nodes
 */
export function transport(name, { title, options, node = {} } = {}) {
  const plain = transports[name];
  return {
    ...plain,
    name,
    title: title ? `${plain.title}, ${title}` : plain.title,
    options: { ...plain.options, ...options },
    node,
    isVariant: title !== undefined,
  };
}

/** What `trunkline::connect` is given. */
export function trunklineUrl({ database, options }, broker) {
  const url = new URL(broker);
  if (database) url.pathname = database;
  for (const [name, value] of Object.entries(options)) if (value !== undefined) url.searchParams.set(name, value);
  return url.href;
}
