/**
 * A Socket.IO client for a cluster: one socket of the official `socket.io-client` that moves to another node when its own is gone.
 *
 * It expects of the server that its connect handler emits `ready` when all its events are registered, because a connection is confirmed
 * before the handler has run and what a client sends in between can be lost.
 *
 *     const client = connectToCluster(io, { nodes: ["http://a:3001", "http://b:3001"], auth: () => ({ name }) });
 *     client.on("ready", (greeting) => ...);
 *     client.on("message", (message) => ...);
 *     const answer = await client.request("message", draft);
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
      auth: (send) => send(auth()),
    });
    this.#socket.io.on("reconnect_attempt", () => this.#moveOn());
    this.#socket.on("disconnect", (reason) => this.#lost(reason));
    this.#socket.on("ready", () => this.#greeted());
  }

  /** Handles an event of the server, or `connect`, `disconnect` and `connect_error` of the client. */
  on(event, handler) {
    this.#socket.on(event, handler);
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

  #greeted() {
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
