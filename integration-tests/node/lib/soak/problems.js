// What has gone wrong, and when.

export class Problems {
  list = [];
  #began = Date.now();

  get seconds() {
    return Math.round((Date.now() - this.#began) / 1000);
  }

  add(text) {
    this.list.push(`after ${this.seconds} s: ${text}`);
  }

  /** Ends a run in which hardly anything works. */
  assertFew() {
    if (this.list.length >= MOST) throw new Error("too many problems");
  }
}

const MOST = 20;
