/** Puts the clients into a room of their own. On return the other nodes know whatever they have to know of it. */
export async function joined(t, clients) {
  const room = t.name("room");
  for (const client of clients) await client.op("join", { rooms: [room] });
  await reachable(t, room);
  return room;
}

/** Rooms that have been entered: nothing to wait for where every node hears everything. */
export async function reachable() {}

/** Waits until a client's socket is in exactly these rooms among `rooms`: on the caller's own node a change may come by way of the broker. */
export async function inRooms(client, rooms, expected) {
  const relevant = (outcome) => outcome.rooms.filter((room) => rooms.includes(room));
  await client.until("ownRooms", {}, (outcome) => String(relevant(outcome)) === String([...expected].sort()));
}
