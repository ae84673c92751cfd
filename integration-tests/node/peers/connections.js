// How a Node.js node or emitter is connected: for each transport its official packages, with names that are not the defaults, so that both
// sides must have been told the same ones (lib/interop/transports.js).

import { createAdapter as createRedisAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { createAdapter as createPostgresAdapter } from "@socket.io/postgres-adapter";
import { createAdapter as createMongoAdapter } from "@socket.io/mongo-adapter";
import { Emitter as RedisEmitter } from "@socket.io/redis-emitter";
import { Emitter as PostgresEmitter } from "@socket.io/postgres-emitter";
import { Emitter as MongoEmitter } from "@socket.io/mongo-emitter";
import { connect as connectNats } from "@nats-io/transport-node";
import { connect as connectRabbitMq } from "amqplib";
import { Redis } from "ioredis";
import { MongoClient } from "mongodb";
import pg from "pg";
import { createClient } from "redis";
import { createAdapter as createRabbitMqAdapter } from "./amqp-adapter.js";
import { createAdapter as createNatsAdapter } from "./nats-adapter.js";

const PREFIX = "interop";
/** Shorter than the default, so that a server that has missed an answer to its first one need not be waited for. */
const HEARTBEATS = { heartbeatInterval: 500 };

/**
 * @returns { adapter, emitter(namespace), sent() }: `sent` resolves when what was published so far is at the broker. Official
 * adapters for PostgreSQL and MongoDB use several connections: a later operation could overtake it.
 */
export async function connect(transport, url, index) {
  const outgoing = new Set();
  const counted = (publish) => (...args) => {
    const publishing = publish(...args);
    outgoing.add(publishing);
    publishing.then(() => outgoing.delete(publishing), (error) => console.error("a publish failed:", error));
    return publishing;
  };
  const connection = await connections[transport]({ url, index, counted });
  return {
    ...connection,
    async sent() {
      do {
        await Promise.all(outgoing);
        await new Promise(setImmediate);
      } while (outgoing.size > 0);
    },
  };
}

const connections = {
  async "redis-pubsub"({ url, index }) {
    const { client, another } = await redis(url, index);
    return {
      adapter: createRedisAdapter(client, await another(), { key: PREFIX, publishOnSpecificResponseChannel: index === 2 }),
      emitter: (namespace) => new RedisEmitter(client, { key: PREFIX }, namespace),
    };
  },

  async "redis-sharded"({ url, index }) {
    const { client, another } = await redis(url, index);
    return { adapter: createShardedAdapter(client, await another(), { channelPrefix: PREFIX }) };
  },

  async "redis-streams"({ url, index }) {
    const { client } = await redis(url, index);
    const names = { streamName: `${PREFIX}-stream`, channelPrefix: PREFIX, sessionKeyPrefix: `${PREFIX}:session:` };
    return { adapter: createStreamsAdapter(client, names) };
  },

  async postgres({ url, counted }) {
    const pool = new pg.Pool({ connectionString: url });
    pool.on("error", (error) => console.error("postgres:", error));
    pool.query = counted(pool.query.bind(pool));
    const names = { channelPrefix: PREFIX, tableName: `${PREFIX}_attachments` };
    return {
      adapter: createPostgresAdapter(pool, { ...names, ...HEARTBEATS, errorHandler: (error) => console.error("postgres:", error) }),
      emitter: (namespace) => new PostgresEmitter(pool, namespace, names),
    };
  },

  async mongodb({ url, counted }) {
    const client = await new MongoClient(url).connect();
    const events = client.db(PREFIX).collection("events");
    events.insertOne = counted(events.insertOne.bind(events));
    return {
      adapter: createMongoAdapter(events, HEARTBEATS),
      emitter: (namespace) => new MongoEmitter(events, namespace),
    };
  },

  async nats({ url }) {
    const connection = await connectNats({ servers: url });
    return { adapter: createNatsAdapter(connection, { prefix: PREFIX, ...HEARTBEATS }) };
  },

  async rabbitmq({ url }) {
    const connection = await connectRabbitMq(url);
    connection.on("error", (error) => console.error("rabbitmq:", error));
    return { adapter: createRabbitMqAdapter(await connection.createChannel(), { prefix: PREFIX, ...HEARTBEATS }) };
  },
};

/** The official adapters take both clients: one node uses the one, the next the other. */
function redis(url, index) {
  return index % 2 === 1 ? nodeRedis(url) : ioRedis(url);
}

async function nodeRedis(url) {
  const another = async () => {
    const client = createClient({ url });
    client.on("error", (error) => console.error("redis:", error));
    return client.connect();
  };
  return { client: await another(), another };
}

async function ioRedis(url) {
  const another = () => {
    const client = new Redis(url);
    client.on("error", (error) => console.error("redis:", error));
    return client;
  };
  return { client: another(), another };
}
