// The conversations of this page, without any display: rooms and private talks since the page was opened.

export const LOBBY = "lobby";

/** @typedef {{ id, from, node, at, text, pictures, state, why }} Entry; or { notice } for a line of the page itself */

export class Conversations {
  /** By key: "room:NAME" or "user:ID". */
  #all = new Map();
  #current;

  constructor(rooms, current) {
    for (const name of rooms) this.room(name);
    this.open(this.room(rooms.includes(current) ? current : rooms[0]));
  }

  get current() {
    return this.#current;
  }

  get rooms() {
    return [...this.#all.values()].filter((conversation) => !conversation.private);
  }

  get privates() {
    return [...this.#all.values()].filter((conversation) => conversation.private);
  }

  get unreadElsewhere() {
    return [...this.#all.values()].reduce((sum, { unread }) => sum + unread, 0);
  }

  room(name) {
    return this.#find(`room:${name}`, { to: name, title: name, private: false });
  }

  with(user, name) {
    const conversation = this.#find(`user:${user}`, { to: user, title: name, private: true });
    conversation.title = name;
    return conversation;
  }

  open(conversation) {
    this.#current = conversation;
    conversation.unread = 0;
  }

  leave(conversation) {
    this.#all.delete(conversation.key);
    if (conversation === this.#current) this.open(this.room(LOBBY));
  }

  /** What this page writes: shown at once, confirmed later. */
  draft(conversation, entry) {
    entry.state = "sending";
    conversation.entries.set(entry.id, entry);
  }

  /** What arrives. Answers whether it is new: a request that was sent again after a move arrives twice. */
  receive(conversation, entry) {
    const known = conversation.entries.get(entry.id);
    if (known && known.state !== "sending" && known.state !== "failed") return false;
    // In the order of arrival; an own draft moves there.
    conversation.entries.delete(entry.id);
    conversation.entries.set(entry.id, { ...entry, state: "sent" });
    conversation.typing.delete(entry.from.user);
    if (conversation !== this.#current) conversation.unread += 1;
    return true;
  }

  notice(conversation, text) {
    const id = `notice-${conversation.entries.size}-${Date.now()}`;
    conversation.entries.set(id, { id, notice: text, at: Date.now() });
  }

  #find(key, made) {
    if (!this.#all.has(key)) {
      this.#all.set(key, { key, unread: 0, entries: new Map(), typing: new Map(), ...made });
    }
    return this.#all.get(key);
  }
}
