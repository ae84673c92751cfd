/**
 * A Socket.IO client for a cluster: one socket of the official `socket.io-client` that moves to another node when its own is gone, and that
 * gets there what it missed. It depends on nothing but that client, so any application can copy this file.
 *
 *     const client = connectToCluster(io, { nodes: ["http://a:3001", "http://b:3001"], auth: () => ({ token }) });
 *     client.on("message", (message) => ...);
 *     client.on("missed", () => reload());
 *     const answer = await client.request("message", draft);
 *
 * What it expects of the server's connect handler:
 *
 * 1. It emits `ready` when all its events are registered, because a connection is confirmed before the handler has run, and what a client
 *    sends in between can be lost. What else the greeting carries is up to the application.
 *
 * 2. It derives who a client is from what only this client knows: a token that it checks, or a secret that it hashes. Whoever presents an id
 *    that others can see would get what is sent to the bearer of that id, such as private messages.
 *
 * For missed messages, with a backend that keeps a history:
 *
 * 3. The greeting names the events that carry their offset, their place in the history, as last argument: `{ offsets: ["message"] }`. Those
 *    are the events that are broadcast, to everybody or to rooms; not volatile or acknowledged ones, and not those that a socket emits to
 *    its own client. The client removes the offset before a handler sees the arguments, and drops an event that it has had already.
 * 4. When the client comes back, the handshake has the last offset beside what `auth` returns: `{ token, offset }`. The server lets the new
 *    socket join its client's rooms, greets it, and calls the bridge's `handle.replay(&socket, offset)`. When that fails the history does
 *    not reach back far enough: it emits an event, here `missed`, and the application loads its state anew.
 * 5. A client that has received nothing yet has no offset. So the server sends something to the socket's id alone after that, such as
 *    `io.to(socket.id).emit("mark", &())`, named among `offsets` too.
 */
export function connectToCluster(io, options) {
  return new ClusterClient(io, options);
}

class ClusterClient {
  #socket;
  #nodes;
  #at = 0;
  #ready = false;
  #unanswered = new Set();
  #handlers = new Map();
  /** The names of the events that carry offsets, by the latest greeting. */
  #offsets = [];
  /** Up to where everything has arrived. */
  #offset;
  /** The latest offsets, to know repeats by. */
  #seen = new Set();

  /**
   * @param io the function `io` of `socket.io-client`
   * @param options.nodes addresses of the nodes; the first one is tried first
   * @param options.auth returns what the handshake carries, asked again for every connection
   * @param options.socket further options of the official client
   */
  constructor(io, { nodes, auth = () => ({}), socket = {} }) {
    this.#nodes = nodes;
    this.#socket = io(nodes[0], {
      // Several nodes behind different addresses: nothing would keep the requests of one long-polling session together.
      transports: ["websocket"],
      reconnectionDelay: 200,
      reconnectionDelayMax: 3000,
      timeout: 5000,
      ...socket,
      auth: (send) => send({ ...auth(), offset: this.#offset }),
    });
    this.#socket.io.on("reconnect_attempt", () => this.#moveOn());
    this.#socket.on("disconnect", (reason) => this.#lost(reason));
    this.#socket.onAny((event, ...args) => this.#received(event, args));
  }

  /** Handles an event of the server, or `connect`, `disconnect` and `connect_error` of the client. */
  on(event, handler) {
    if (OF_THE_CLIENT.includes(event)) {
      this.#socket.on(event, handler);
    } else {
      this.#handlers.set(event, [...(this.#handlers.get(event) ?? []), handler]);
    }
  }

  /** Whether a node has greeted this client and listens to it. */
  get ready() {
    return this.#ready;
  }

  /** Whether it goes on by itself after a `connect_error`: not when a node has refused it. */
  get trying() {
    return this.#socket.active;
  }

  /** The address of the node that this client is connected to, or tries. */
  get node() {
    return this.#nodes[this.#at];
  }

  /** Addresses learnt later, for example of nodes that have been added. */
  set nodes(addresses) {
    const current = this.node;
    this.#nodes = addresses.includes(current) ? addresses : [current, ...addresses];
    this.#at = this.#nodes.indexOf(current);
  }

  /**
   * Sends an event and resolves with its acknowledgement. When the node goes away before it has answered, the request is sent again to the
   * next one: a server may see it twice, so give it an id where that matters.
   */
  request(event, ...data) {
    return new Promise((resolve) => {
      const request = { event, data, resolve };
      this.#unanswered.add(request);
      if (this.#ready) this.#send(request);
    });
  }

  /** Sends an event that is worth nothing later: dropped while there is no connection. */
  hint(event, ...data) {
    if (this.#ready) this.#socket.volatile.emit(event, ...data);
  }

  close() {
    this.#socket.disconnect();
  }

  #send(request) {
    this.#socket.emit(request.event, ...request.data, (answer) => {
      if (this.#unanswered.delete(request)) request.resolve(answer);
    });
  }

  #received(event, args) {
    if (event === "ready") this.#greeted(args[0]);
    if (this.#offsets.includes(event) && typeof args.at(-1) === "string") {
      const offset = args.pop();
      if (this.#seen.has(offset)) return;
      this.#reached(offset);
    }
    for (const handler of this.#handlers.get(event) ?? []) handler(...args);
  }

  #reached(offset) {
    this.#offset = offset;
    this.#seen.add(offset);
    if (this.#seen.size > REMEMBERED) this.#seen.delete(this.#seen.values().next().value);
  }

  #greeted(greeting) {
    this.#offsets = greeting?.offsets ?? [];
    // To a node without history it would mean nothing.
    if (!this.#offsets.length) this.#offset = undefined;
    this.#ready = true;
    for (const request of this.#unanswered) this.#send(request);
  }

  #lost(reason) {
    this.#ready = false;
    // The official client does not reconnect by itself when a server has ended the connection on purpose.
    if (reason === "io server disconnect") {
      this.#moveOn();
      this.#socket.connect();
    }
  }

  #moveOn() {
    this.#at = (this.#at + 1) % this.#nodes.length;
    // Where the official client's manager connects next time; it has no method for it.
    this.#socket.io.uri = this.node;
  }
}

/** Events that do not come from the server. */
const OF_THE_CLIENT = ["connect", "disconnect", "connect_error"];

/** Offsets to know repeats by. A server sends nothing twice to one socket; a client that moves may get its last events again. */
const REMEMBERED = 1000;
