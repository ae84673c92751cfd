// Emits into a cluster from a process that is no node, over RabbitMQ or NATS: the operations of the official emitters, as cluster messages
// of docs/protocol.md.

import { MessageType } from "socket.io-adapter";

export class Emitter {
  #publish;
  #namespace;
  #opts;

  /** @param publish takes a message */
  constructor(publish, namespace, opts = { rooms: [], except: [], flags: {} }) {
    this.#publish = publish;
    this.#namespace = namespace;
    this.#opts = opts;
  }

  to(rooms) {
    return this.#with({ rooms: [...this.#opts.rooms, ...[rooms].flat()] });
  }

  except(rooms) {
    return this.#with({ except: [...this.#opts.except, ...[rooms].flat()] });
  }

  get volatile() {
    return this.#with({ flags: { volatile: true } });
  }

  emit(event, ...args) {
    this.#send(MessageType.BROADCAST, { packet: { type: 2, data: [event, ...args] }, opts: this.#opts });
  }

  socketsJoin(rooms) {
    this.#send(MessageType.SOCKETS_JOIN, { opts: this.#opts, rooms: [rooms].flat() });
  }

  socketsLeave(rooms) {
    this.#send(MessageType.SOCKETS_LEAVE, { opts: this.#opts, rooms: [rooms].flat() });
  }

  disconnectSockets(close = false) {
    this.#send(MessageType.DISCONNECT_SOCKETS, { opts: this.#opts, close });
  }

  serverSideEmit(event, ...args) {
    this.#send(MessageType.SERVER_SIDE_EMIT, { packet: [event, ...args] });
  }

  #with(change) {
    return new Emitter(this.#publish, this.#namespace, { ...this.#opts, ...change });
  }

  #send(type, data) {
    this.#publish({ type, data, uid: "emitter", nsp: this.#namespace });
  }
}
