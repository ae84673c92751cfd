/** Puts the clients into a room of their own. */
export async function joined(t, clients) {
  const room = t.name("room");
  for (const client of clients) await client.op("join", { rooms: [room] });
  return room;
}

/** Waits until a client's socket is in exactly these rooms among `rooms`: on the caller's own node a change may come by way of the broker. */
export async function inRooms(client, rooms, expected) {
  const relevant = (outcome) => outcome.rooms.filter((room) => rooms.includes(room));
  await client.until("ownRooms", {}, (outcome) => String(relevant(outcome)) === String([...expected].sort()));
}

/** Enters rooms that others have put the clients into once more, by a call that can be awaited: on some wires rooms have channels. */
export async function enteredFor(rooms, clients) {
  for (const client of clients) await client.op("join", { rooms });
}
