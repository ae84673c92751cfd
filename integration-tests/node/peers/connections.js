// How a Node.js node or emitter is connected: for each transport its official packages, with names that are not the defaults, so that both
// sides must have been told the same ones (lib/interop/transports.js). Packages are loaded when they are needed: all of them take a while.

const PREFIX = "interop";

/**
 * @param options more options of the adapter
 * @param heartbeats { heartbeatInterval } of those that have heartbeats
 * @returns { adapter, emitter(namespace), sent() }: `sent` resolves when what was published and subscribed so far is at the broker. Official
 * adapters for PostgreSQL and MongoDB use several connections: a later operation could overtake it.
 */
export async function connect(transport, url, index, options, heartbeats) {
  const outgoing = new Set();
  const counted = (publish) => (...args) => {
    const publishing = publish(...args);
    outgoing.add(publishing);
    const reported = publishing.catch((error) => console.error("a publish failed:", error));
    reported.then(() => outgoing.delete(publishing));
    return publishing;
  };
  const connection = await connections[transport]({ url, index, options, heartbeats, counted });
  return {
    ...connection,
    async sent() {
      do {
        await Promise.all([...outgoing, connection.subscribed?.()]);
        await new Promise(setImmediate);
      } while (outgoing.size > 0);
    },
  };
}

const connections = {
  async "redis-pubsub"({ url, index, options }) {
    const { createAdapter } = await import("@socket.io/redis-adapter");
    const { Emitter } = await import("@socket.io/redis-emitter");
    const { client, another } = await redis(url, index);
    return {
      adapter: createAdapter(client, await another(), {
        key: PREFIX,
        publishOnSpecificResponseChannel: index === 2,
        ...options,
      }),
      emitter: (namespace) => new Emitter(client, { key: PREFIX }, namespace),
    };
  },

  async "redis-sharded"({ url, index, options }) {
    const { createShardedAdapter } = await import("@socket.io/redis-adapter");
    const { client, another } = await redis(url, index);
    const subscriber = await another();
    return {
      adapter: createShardedAdapter(client, subscriber, { channelPrefix: PREFIX, ...options }),
      // Rooms have channels: what is asked behind a subscription is answered when that is active.
      subscribed: () => subscriber.ping(),
    };
  },

  async "redis-streams"({ url, index, options }) {
    const { createAdapter } = await import("@socket.io/redis-streams-adapter");
    const { createStreamsEmitter } = await import("./streams-emitter.js");
    const { client } = await redis(url, index);
    const names = { streamName: `${PREFIX}-stream`, channelPrefix: PREFIX, sessionKeyPrefix: `${PREFIX}:session:` };
    return {
      adapter: createAdapter(client, { ...names, ...options }),
      emitter: (namespace) => createStreamsEmitter(client, namespace, names.streamName),
    };
  },

  async postgres({ url, heartbeats, counted }) {
    const { createAdapter } = await import("@socket.io/postgres-adapter");
    const { Emitter } = await import("@socket.io/postgres-emitter");
    const { default: pg } = await import("pg");
    const pool = new pg.Pool({ connectionString: url });
    pool.on("error", (error) => console.error("postgres:", error));
    pool.query = counted(pool.query.bind(pool));
    const names = { channelPrefix: PREFIX, tableName: `${PREFIX}_attachments` };
    return {
      adapter: createAdapter(pool, { ...names, ...heartbeats, errorHandler: (error) => console.error("postgres:", error) }),
      emitter: (namespace) => new Emitter(pool, namespace, names),
    };
  },

  async mongodb({ url, options, heartbeats, counted }) {
    const { createAdapter } = await import("@socket.io/mongo-adapter");
    const { Emitter } = await import("@socket.io/mongo-emitter");
    const { MongoClient } = await import("mongodb");
    const client = await new MongoClient(url).connect();
    const events = client.db(PREFIX).collection("events");
    events.insertOne = counted(events.insertOne.bind(events));
    return {
      adapter: createAdapter(events, { ...heartbeats, ...options }),
      emitter: (namespace) => new Emitter(events, namespace),
    };
  },

  async nats({ url, heartbeats }) {
    const { connect } = await import("@nats-io/transport-node");
    const { createAdapter, createEmitter } = await import("./nats-adapter.js");
    const connection = await connect({ servers: url });
    return {
      adapter: createAdapter(connection, { prefix: PREFIX, ...heartbeats }),
      emitter: (namespace) => createEmitter(connection, namespace, { prefix: PREFIX }),
    };
  },

  async rabbitmq({ url, heartbeats }) {
    const { connect } = await import("amqplib");
    const { createAdapter, createEmitter } = await import("./amqp-adapter.js");
    const connection = await connect(url);
    connection.on("error", (error) => console.error("rabbitmq:", error));
    const channel = await connection.createChannel();
    return {
      adapter: createAdapter(channel, { prefix: PREFIX, ...heartbeats }),
      emitter: (namespace) => createEmitter(channel, namespace, { prefix: PREFIX }),
    };
  },
};

/** The official adapters take both clients: one node uses the one, the next the other. */
function redis(url, index) {
  return index % 2 === 1 ? nodeRedis(url) : ioRedis(url);
}

async function nodeRedis(url) {
  const { createClient } = await import("redis");
  const another = async () => {
    const client = createClient({ url });
    client.on("error", (error) => console.error("redis:", error));
    return client.connect();
  };
  return { client: await another(), another };
}

async function ioRedis(url) {
  const { Redis } = await import("ioredis");
  const another = () => {
    const client = new Redis(url);
    client.on("error", (error) => console.error("redis:", error));
    return client;
  };
  return { client: another(), another };
}
