// A Socket.IO adapter for Node.js that speaks the wire of trunkline-rabbitmq, written from docs/protocol.md ("RabbitMQ and NATS: frames").

import { ClusterAdapterWithHeartbeat } from "socket.io-adapter";
import { Emitter } from "./emitter.js";
import { openFrame, Sender, token } from "./frames.js";

/** The adapter for `new Server({ adapter })`, over a channel of amqplib. */
export function createAdapter(channel, options = {}) {
  // The server calls it with `new`.
  return function (namespace) {
    return new RabbitMqAdapter(namespace, channel, options);
  };
}

/** Emits into a namespace from a process that is no node. */
export function createEmitter(channel, namespace, { prefix = "trunkline" } = {}) {
  const sender = new Sender();
  const [exchange, key] = [`trunkline.${token(prefix)}`, `${token(namespace)}.all`];
  return new Emitter((message) => channel.publish(exchange, key, sender.frame(message)), namespace);
}

class RabbitMqAdapter extends ClusterAdapterWithHeartbeat {
  #channel;
  #exchange;
  #namespace;
  #consumer;
  #sender = new Sender();

  constructor(namespace, channel, { prefix = "trunkline", ...options }) {
    super(namespace, options);
    this.#channel = channel;
    this.#exchange = `trunkline.${token(prefix)}`;
    this.#namespace = token(namespace.name);
  }

  /** Greets the others when their answers arrive. */
  async init() {
    const channel = this.#channel;
    await channel.assertExchange(this.#exchange, "topic", { durable: true });
    const { queue } = await channel.assertQueue("", { exclusive: true, autoDelete: true });
    // All rooms instead of those with members: a small adapter need not keep account of them.
    for (const key of ["all", "room.*", `node.${token(this.uid)}`]) {
      await channel.bindQueue(queue, this.#exchange, `${this.#namespace}.${key}`);
    }
    const received = (delivery) => {
      for (const message of delivery ? openFrame(delivery.content) : []) this.onMessage(message);
    };
    this.#consumer = await channel.consume(queue, received, { noAck: true });
    super.init();
  }

  async doPublish(message) {
    this.#channel.publish(this.#exchange, `${this.#namespace}.all`, this.#sender.frame(message));
  }

  async doPublishResponse(requester, response) {
    this.#channel.publish(this.#exchange, `${this.#namespace}.node.${token(requester)}`, this.#sender.frame(response));
  }

  async close() {
    super.close();
    if (this.#consumer) await this.#channel.cancel(this.#consumer.consumerTag);
  }
}
