// What a client can ask for with the event `op`, and what it gets to know: the same as on the Rust test nodes (nodes/src/operation.rs).

/** @param node { socket, namespace, emitter, counts, sent } */
export async function perform(node, operation) {
  const outcome = { error: null, answers: [], silent: [], sockets: [], rooms: [], servers: [], nodes: [], missing: 0 };
  try {
    const { kind } = operation;
    const known = node.emitter ? ofEmitter : ofNode;
    if (!known[kind]) throw new Error(`there is no operation ${kind}`);
    Object.assign(outcome, await known[kind]({ ...node, ...operation, args: operation.args ?? [], select: operation.select ?? {} }));
    await node.sent();
  } catch (error) {
    outcome.error = String(error.message);
  }
  return outcome;
}

/** Operations that a node has, by name. What they return goes into the outcome. */
const ofNode = {
  join: async ({ socket, rooms }) => void (await socket.join(rooms)),
  leave: ({ socket, rooms }) => rooms.forEach((room) => socket.leave(room)),
  ownRooms: ({ socket }) => ({ rooms: names(socket.rooms) }),
  emit: (op) => void selected(op).emit(op.event, ...op.args),
  emitSeries: (op) => {
    const [count, largest] = op.args;
    for (let number = 0; number < count; number += 1) {
      const operators = number % 3 === 0 ? selected(op) : op.namespace;
      operators.emit(op.event, number, "x".repeat(number % 50 === 0 ? largest : 1));
    }
  },
  emitWithAck: (op) => ask(selected(op), op),
  fetchSockets: async (op) => {
    const sockets = await selected(op).fetchSockets();
    return { sockets: sockets.map(({ id }) => ({ id, server: "", namespace: op.namespace.name })) };
  },
  describeSockets: async (op) => {
    const sockets = await selected(op).fetchSockets();
    return { described: sockets.map(({ id, rooms, handshake, data }) => ({ id, rooms: names(rooms), handshake, data })) };
  },
  socketsJoin: (op) => selected(op).socketsJoin(op.rooms),
  socketsLeave: (op) => selected(op).socketsLeave(op.rooms),
  disconnectSockets: (op) => selected(op).disconnectSockets(),
  closeConnections: (op) => selected(op).disconnectSockets(op.close),
  rooms: async (op) => {
    const sockets = await selected(op).fetchSockets();
    return { rooms: names(new Set(sockets.flatMap(({ id, rooms }) => [...rooms].filter((room) => room !== id)))) };
  },
  remoteEmit: async (op) => void (await remote(op)).emit(op.event, ...op.args),
  remoteEmitWithAck: async (op) => ask(await remote(op), op),
  remoteJoin: async (op) => void (await remote(op)).join(op.rooms),
  remoteLeave: async (op) => {
    const socket = await remote(op);
    op.rooms.forEach((room) => socket.leave(room));
  },
  remoteDisconnect: async (op) => void (await remote(op)).disconnect(),
  remoteRooms: async (op) => ({ rooms: names([...(await remote(op)).rooms].filter((room) => room !== op.id)) }),
  serverSideEmit: (op) => void op.namespace.serverSideEmit(op.event, ...op.args),
  serverSideEmitWithAck: (op) => askServers(op),
  serverCount: async ({ namespace }) => ({ count: await namespace.adapter.serverCount() }),
  allRooms: async ({ namespace }) => ({ rooms: names(await namespace.adapter.allRooms()) }),
  setData: ({ socket, data }) => void (socket.data = data),
  persistSession: async ({ namespace, session }) => void (await namespace.adapter.persistSession(session)),
  restoreSession: async ({ namespace, id, since }) => {
    const { missedPackets, ...session } = (await namespace.adapter.restoreSession(id, since)) ?? {};
    return session.pid ? { session: { ...session, rooms: names(session.rooms) }, missed: missedPackets } : { session: null };
  },
  watchServers: ({ counts }) => counts.forEach(({ watch }) => watch()),
  seenServers: ({ counts }) => ({ seen: Object.fromEntries(counts.map(({ namespace, seen }) => [namespace, [...seen]])) }),
};

/** Operations that an emitter has; its socket is no part of the cluster. */
const ofEmitter = {
  emit: (op) => void selected(op).emit(op.event, ...op.args),
  socketsJoin: (op) => void selected(op).socketsJoin(op.rooms),
  socketsLeave: (op) => void selected(op).socketsLeave(op.rooms),
  disconnectSockets: (op) => void selected(op).disconnectSockets(),
  serverSideEmit: (op) => void op.emitter.serverSideEmit(op.event, ...op.args),
};

/** The chain of operators before the operation itself (nodes/src/selection.rs). */
function selected({ socket, namespace, emitter, select }) {
  const { fromSocket, to = [], within = [], except = [], local, volatile } = select;
  let operators = emitter ?? (fromSocket ? (within.length > 0 ? namespace : socket.broadcast) : namespace);
  for (const rooms of [to, within]) if (rooms.length > 0) operators = operators.to(rooms);
  if (except.length > 0) operators = operators.except(except);
  if (local) operators = operators.local;
  if (volatile) operators = operators.volatile;
  return operators;
}

async function remote(op) {
  const socket = (await selected(op).fetchSockets()).find(({ id }) => id === op.id);
  if (!socket) throw new Error(`there is no socket ${op.id}`);
  return socket;
}

/** A timeout is no failure here: the outcome holds what arrived. */
function ask(target, { event, args, select }) {
  return new Promise((resolve) => {
    target.timeout(select.timeout ?? 5000).emit(event, ...args, (error, answers) => {
      // A single socket answers with a value.
      const values = Array.isArray(answers) ? answers : error ? [] : [answers];
      resolve({ answers: values.map((value) => ["", value]), silent: error ? [["", "timeout"]] : [] });
    });
  });
}

async function askServers({ namespace, event, args }) {
  try {
    return { servers: await namespace.serverSideEmitWithAck(event, ...args) };
  } catch (error) {
    // The message says how many; answers are never more than expected.
    return { servers: error.responses ?? [], missing: 1 };
  }
}

function names(rooms) {
  return [...rooms].map(String).sort();
}
