// Whom this page has heard of, so that two people of one name can be told apart.

export class Names {
  /** The names by user, written alike where they look alike. */
  #names = new Map();

  note({ user, name }) {
    this.#names.set(user, name.normalize("NFKC").toLowerCase());
  }

  /** The beginning of the user's id if somebody else has the same name, or nothing. */
  mark(user) {
    const name = this.#names.get(user);
    const isShared = [...this.#names].some(([other, otherName]) => other !== user && otherName === name);
    return isShared ? user.slice(0, 4) : "";
  }
}
