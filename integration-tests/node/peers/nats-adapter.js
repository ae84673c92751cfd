// A Socket.IO adapter for Node.js that speaks the wire of trunkline-nats, written from docs/protocol.md ("RabbitMQ and NATS: frames").

import { ClusterAdapterWithHeartbeat, MessageType } from "socket.io-adapter";
import { Emitter } from "./emitter.js";
import { openFrame, Sender, token } from "./frames.js";

/** The adapter for `new Server({ adapter })`, over a connection of the official client. */
export function createAdapter(connection, options = {}) {
  // The server calls it with `new`.
  return function (namespace) {
    return new NatsAdapter(namespace, connection, options);
  };
}

/** Emits into a namespace from a process that is no node. */
export function createEmitter(connection, namespace, { prefix = "trunkline" } = {}) {
  const sender = new Sender();
  const subject = `${token(prefix)}.${token(namespace)}.all`;
  return new Emitter((message) => connection.publish(subject, sender.frame(message)), namespace);
}

const SIGNS_OF_LIFE = [MessageType.INITIAL_HEARTBEAT, MessageType.HEARTBEAT];

class NatsAdapter extends ClusterAdapterWithHeartbeat {
  #connection;
  #subject;
  #fence;
  #subscriptions;
  #sender = new Sender();

  constructor(namespace, connection, { prefix = "trunkline", ...options }) {
    super(namespace, options);
    this.#connection = connection;
    this.#subject = `${token(prefix)}.${token(namespace.name)}`;
    this.#fence = `${token(prefix)}.fence`;
    const callback = (_, { data }) => {
      for (const message of openFrame(data)) this.onMessage(message);
    };
    // All rooms instead of those with members: a small adapter need not keep account of them.
    const subjects = ["all", "room.*", `node.${token(this.uid)}`];
    this.#subscriptions = subjects.map((subject) => connection.subscribe(`${this.#subject}.${subject}`, { callback }));
    // Whoever enters a room behind another server of the cluster asks whether ours knows of it. That the question has come here says so.
    const answer = (_, question) => question.respond(this.#hello());
    this.#subscriptions.push(connection.subscribe(this.#fence, { callback: answer }));
  }

  /** Who we are and behind which server. */
  #hello() {
    return `${this.uid} ${this.#connection.info.server_id}`;
  }

  async doPublish(message) {
    if (SIGNS_OF_LIFE.includes(message.type)) this.#connection.publish(this.#fence, this.#hello());
    if (message.type === MessageType.ADAPTER_CLOSE) this.#connection.publish(this.#fence, this.uid);
    this.#connection.publish(`${this.#subject}.all`, this.#sender.frame(message));
  }

  async doPublishResponse(requester, response) {
    this.#connection.publish(`${this.#subject}.node.${token(requester)}`, this.#sender.frame(response));
  }

  close() {
    super.close();
    this.#subscriptions.forEach((subscription) => subscription.unsubscribe());
  }
}
