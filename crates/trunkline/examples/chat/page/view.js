// The page: shows what it is given and reports what the reader does. It holds no state of the chat.

const $ = (id) => document.getElementById(id);

export class View {
  #names;
  #actions;
  #shown = new Map();
  #conversation;
  #attached;
  /** Of the pictures in the messages. */
  #addresses = new WeakMap();

  /** @param names tells people of one name apart; @param actions functions that the page calls: open, enter, leave, write, retry, type, choose, switchNode, rename */
  constructor(names, actions) {
    this.#names = names;
    this.#actions = actions;
    const { pictureLimit, textLimit } = document.documentElement.dataset;
    this.pictureLimit = Number(pictureLimit);
    this.textLimit = Number(textLimit);
    $("served-by").textContent = document.documentElement.dataset.port;
    this.#listen();
  }

  /** Asks for a nickname; resolves with it. */
  askName(suggestion, mayCancel) {
    const dialog = $("welcome");
    const field = $("nickname");
    field.value = suggestion;
    checkLimit(field);
    dialog.oncancel = (event) => mayCancel || event.preventDefault();
    dialog.showModal();
    field.select();
    return new Promise((resolve) => {
      $("welcome-form").onsubmit = () => resolve(field.value.trim());
      dialog.onclose = () => resolve(undefined);
    });
  }

  me({ user, name }) {
    $("my-name").textContent = name;
    fillAvatar($("my-avatar"), user, name);
  }

  connection({ state, node }) {
    const words = {
      // A phone has no room for the first word.
      online: [make("span", { className: "wide" }, "on "), `node ${node}`],
      connecting: ["connecting…"],
      moving: ["moving…"],
      unanswered: ["no node answers"],
      refused: ["not connected"],
    };
    $("connection").replaceChildren(make("span", { className: "words" }, ...words[state]));
    $("connection").dataset.state = state;
    if (node) $("connection").style.setProperty("--hue", hueOfNode(node));
  }

  banner(text) {
    $("banner").textContent = text ?? "";
    $("banner").hidden = !text;
  }

  /** Both lists of conversations. @param rooms of the whole cluster: { name, people, conversation? } */
  conversations(rooms, privates, current, unreadElsewhere) {
    replaceKeepingFocus(
      $("rooms"),
      rooms.map(({ name, people, conversation }) =>
        conversationItem({
          mark: "#",
          title: [name],
          about: !conversation ? "not entered" : people === undefined ? "" : count(people, "person", "people"),
          unread: conversation?.unread,
          current: conversation === current,
          open: () => this.#closing(() => this.#actions.enter(name)),
        }),
      ),
    );
    replaceKeepingFocus(
      $("private"),
      privates.map(({ conversation, online }) =>
        conversationItem({
          user: conversation.to,
          title: this.#name(conversation.to, conversation.title),
          about: online,
          unread: conversation.unread,
          current: conversation === current,
          open: () => this.#closing(() => this.#actions.open(conversation)),
        }),
      ),
    );
    $("private-hint").hidden = privates.length > 0;
    fillBadge($("unread-elsewhere"), unreadElsewhere);
    const title = current.private ? current.title : `#${current.title}`;
    document.title = unreadElsewhere ? `(${unreadElsewhere}) ${title}` : `${title} · Trunkline chat`;
  }

  title(conversation, about, mayLeave) {
    $("conversation-title").replaceChildren(...(conversation.private ? this.#name(conversation.to, conversation.title) : [`# ${conversation.title}`]));
    $("conversation-about").textContent = about;
    $("leave").hidden = !mayLeave;
    $("text").placeholder = conversation.private ? `Write to ${isolated(conversation.title)} alone` : `Write to ${isolated(`#${conversation.title}`)}`;
  }

  typing(names) {
    const people = names.map(({ user, name }) => make("span", {}, ...this.#name(user, name)));
    const who = people.length > 2 ? ["several people"] : people.flatMap((person, index) => (index ? [" and ", person] : [person]));
    $("typing").replaceChildren(...who, people.length ? ` ${people.length === 1 ? "is" : "are"} typing…` : "");
  }

  /** Brings the list of messages in line with the conversation, touching only what has changed. */
  messages(conversation, me) {
    const list = $("messages");
    const log = $("log");
    if (conversation !== this.#conversation) {
      this.#conversation = conversation;
      this.#shown.clear();
      list.replaceChildren();
      list.append(emptyNote(conversation));
    }
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    const entries = [...conversation.entries.values()];
    const items = entries.map((entry, index) => this.#item(entry, entries[index - 1], me, conversation));
    // After the note that stands first; an item that has moved is put where it belongs now.
    items.forEach((item, index) => {
      const place = list.children[index + 1] ?? null;
      if (item !== place) list.insertBefore(item, place);
    });
    list.firstElementChild.hidden = conversation.entries.size > 0;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  /** The nodes with their people. */
  nodes(nodes, here, me) {
    const people = nodes.reduce((sum, node) => sum + node.people.length, 0);
    const running = nodes.filter((node) => node.running).length;
    $("cluster-about").textContent = nodes.some((node) => node.silent) ? "Who is online is not known." : `${count(people, "person", "people")} on ${count(running, "node", "nodes")}`;
    fillBadge($("people-count"), people);
    replaceKeepingFocus($("nodes"), nodes.map((node) => this.#node(node, here, me)));
  }

  problem(text) {
    $("problem").textContent = text ?? "";
    $("problem").hidden = !text;
  }

  attach(picture) {
    if (this.#attached) URL.revokeObjectURL($("attached-picture").src);
    this.#attached = picture;
    $("attached").hidden = !picture;
    $("picture").value = "";
    if (!picture) return;
    $("attached-picture").src = URL.createObjectURL(new Blob([picture.data], { type: picture.kind }));
    $("attached-name").textContent = `${picture.name} · ${size(picture.data.byteLength)}`;
    $("text").focus();
  }

  focusText() {
    // A phone would cover half of the page with its keyboard.
    if (matchMedia("(hover: hover)").matches) $("text").focus();
  }

  #item(entry, before, me, conversation) {
    // An entry is replaced, not changed, when it arrives: then its item is made anew too.
    const known = this.#shown.get(entry.id);
    const look = JSON.stringify([entry.state, entry.why, follows(entry, before), entry.from && this.#names.mark(entry.from.user)]);
    if (known?.look === look) return known.item;
    const item = entry.notice ? notice(entry) : this.#message(entry, before, me, conversation);
    known?.item.replaceWith(item);
    this.#shown.set(entry.id, { item, look });
    return item;
  }

  #message(entry, before, me, conversation) {
    // An own draft may be older than the id by which the others know this page.
    const own = entry.from === me || entry.from.user === me.user;
    const item = make("li", { className: "message" });
    item.classList.toggle("own", own);
    item.classList.toggle("follows", follows(entry, before));
    item.dataset.state = entry.state;
    const avatar = make("span", { className: "avatar" });
    avatar.setAttribute("aria-hidden", "true");
    fillAvatar(avatar, entry.from.user, entry.from.name);
    const about = make("p", { className: "about" }, make("strong", {}, ...(own ? ["You"] : this.#name(entry.from.user, entry.from.name))), nodeMark(entry.node), time(entry.at));
    const bubble = make("div", { className: "bubble" });
    bubble.append(...entry.pictures.map((picture) => this.#picture(picture)));
    if (entry.text) bubble.append(make("p", { dir: "auto" }, entry.text));
    item.append(avatar, make("div", {}, about, bubble));
    if (own) item.lastElementChild.append(this.#state(entry, conversation));
    return item;
  }

  #picture(picture) {
    if (!this.#addresses.has(picture)) {
      this.#addresses.set(picture, URL.createObjectURL(new Blob([picture.data], { type: picture.kind })));
    }
    const href = this.#addresses.get(picture);
    const image = make("img", { src: href, alt: picture.name });
    image.onload = () => ($("log").scrollTop = $("log").scrollHeight);
    return make("a", { href, target: "_blank", className: "picture" }, image);
  }

  #state(entry, conversation) {
    const words = { sending: "Sending…", sent: "Sent", delivered: `Delivered on node ${entry.confirmedBy}`, failed: `Not delivered: ${entry.why}` };
    const state = make("p", { className: "state" }, words[entry.state] ?? "");
    if (entry.state === "failed") {
      state.append(" ", make("button", { type: "button", onclick: () => this.#actions.retry(conversation, entry) }, "Try again"));
    }
    return state;
  }

  #node(node, here, me) {
    const item = make("li", { className: "node" });
    item.style.setProperty("--hue", hueOfNode(node.port));
    item.classList.toggle("stopped", !node.running || Boolean(node.silent));
    const state = node.silent ? "no answer" : !node.running ? "stopped" : node.port === here ? "this page" : "";
    const head = make("header", {}, make("span", { className: "dot" }), make("h3", {}, `Node ${node.port}`), make("span", { className: "tag" }, state));
    if (node.ours) head.append(this.#switch(node));
    const people = make("ul", {}, ...inOrder(node.people).map((person) => this.#person(person, node, me)));
    item.append(head, people);
    if (node.running && !node.silent && !node.people.length) item.append(make("p", { className: "hint" }, "Nobody is here."));
    return item;
  }

  #switch({ port, running }) {
    const button = make("button", { type: "button", className: "switch" }, running ? "Stop" : "Start");
    button.dataset.focus = `switch-${port}`;
    button.setAttribute("aria-label", `${running ? "Stop" : "Start"} node ${port}`);
    button.onclick = () => {
      button.disabled = true;
      this.#actions.switchNode(port, !running);
    };
    return button;
  }

  #person(person, node, me) {
    const avatar = make("span", { className: "avatar small" });
    avatar.setAttribute("aria-hidden", "true");
    fillAvatar(avatar, person.user, person.name);
    const own = person.user === me.user;
    const name = make("span", {}, ...this.#name(person.user, person.name), own ? " (you)" : "");
    if (own) return make("li", {}, make("span", { className: "person" }, avatar, name));
    const button = make("button", { type: "button", className: "person", title: `Write to ${isolated(person.name)} alone` }, avatar, name);
    button.dataset.focus = `person-${person.user}`;
    button.onclick = () => this.#closing(() => this.#actions.write(person));
    return make("li", {}, button);
  }

  /** A name, whatever way its script runs, and what tells its bearer from others of the name. */
  #name(user, name) {
    const mark = this.#names.mark(user);
    return mark ? [make("bdi", {}, name), " ", make("span", { className: "namesake", title: "Somebody else has this name too" }, mark)] : [make("bdi", {}, name)];
  }

  #listen() {
    const text = $("text");
    $("composer").onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    text.onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    };
    text.oninput = () => {
      grow(text);
      this.#measure();
      if (text.value.trim()) this.#actions.type();
    };
    text.onpaste = (event) => this.#chooseFrom(event.clipboardData.files, event);
    document.ondragover = (event) => event.preventDefault();
    document.ondrop = (event) => this.#chooseFrom(event.dataTransfer.files, event);
    $("attach").onclick = () => $("picture").click();
    $("picture").onchange = (event) => this.#chooseFrom(event.target.files);
    $("detach").onclick = () => this.attach(undefined);
    $("new-room").onsubmit = (event) => {
      event.preventDefault();
      const name = $("room-name").value.trim();
      $("new-room").reset();
      if (name) this.#closing(() => this.#actions.enter(name));
    };
    for (const field of document.querySelectorAll("[data-limit]")) field.addEventListener("input", () => checkLimit(field));
    $("leave").onclick = () => this.#actions.leave();
    $("rename").onclick = () => this.#actions.rename();
    this.#drawers();
  }

  #send() {
    const text = $("text").value.trim();
    if (!text && !this.#attached) return;
    // It stays where it is, and what is wrong stands above it.
    if (!this.#measure()) return;
    this.#actions.send(text, this.#attached ? [this.#attached] : []);
    this.attach(undefined);
    this.problem(undefined);
    $("text").value = "";
    grow($("text"));
    $("log").scrollTop = $("log").scrollHeight;
  }

  /** Says so if the text is too long: cut by the page, its end would be lost without a word. */
  #measure() {
    const over = characters($("text").value) - this.textLimit;
    $("too-long").hidden = over <= 0;
    $("too-long").textContent = over > 0 ? `${over.toLocaleString("en")} characters too many: a message may have ${this.textLimit.toLocaleString("en")}.` : "";
    $("text").setAttribute("aria-invalid", over > 0);
    return over <= 0;
  }

  #chooseFrom(files, event) {
    if (!files?.length) return;
    event?.preventDefault();
    this.#actions.choose(files[0]);
  }

  /** On narrow screens both side columns are drawers. */
  #drawers() {
    const show = (drawer, opener) => {
      drawer.classList.toggle("open", true);
      opener.setAttribute("aria-expanded", "true");
      $("backdrop").hidden = false;
      drawer.querySelector("button, input")?.focus();
      this.opener = opener;
    };
    $("open-side").onclick = () => show($("side"), $("open-side"));
    $("open-people").onclick = () => show($("people"), $("open-people"));
    $("backdrop").onclick = () => this.#closeDrawers();
    for (const button of document.querySelectorAll("[data-close]")) button.onclick = () => this.#closeDrawers();
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.#closeDrawers());
  }

  #closeDrawers() {
    if (!this.opener) return;
    $("side").classList.remove("open");
    $("people").classList.remove("open");
    $("backdrop").hidden = true;
    this.opener.setAttribute("aria-expanded", "false");
    this.opener.focus();
    this.opener = undefined;
  }

  #closing(action) {
    this.#closeDrawers();
    action();
    this.focusText();
  }
}

function conversationItem({ mark, user, title, about, unread, current, open }) {
  const icon = make("span", { className: mark ? "mark" : "avatar small" }, mark ?? "");
  icon.setAttribute("aria-hidden", "true");
  if (user) fillAvatar(icon, user, title[0].textContent);
  const badge = make("span", { className: "badge" });
  fillBadge(badge, unread);
  const button = make("button", { type: "button", onclick: open }, icon, make("span", { className: "name", dir: "auto" }, ...title), make("small", {}, about), badge);
  button.dataset.focus = user ?? `room-${title}`;
  if (current) button.setAttribute("aria-current", "true");
  return make("li", {}, button);
}

function emptyNote(conversation) {
  const name = make("bdi", {}, conversation.private ? conversation.title : `#${conversation.title}`);
  const where = conversation.private ? ["Only ", name, " reads what you write here."] : ["This is the room ", name, "."];
  return make("li", { className: "empty" }, make("p", {}, ...where), make("p", {}, "What is written from now on appears here."));
}

function notice({ notice: text, at }) {
  return make("li", { className: "notice" }, text, " · ", time(at));
}

/** Whether an entry continues the one before it: same author, same node, within a few minutes. */
function follows(entry, before) {
  if (!before || before.notice || entry.notice) return false;
  return before.from.user === entry.from.user && before.node === entry.node && entry.at - before.at < 3 * 60_000;
}

function nodeMark(port) {
  const mark = make("span", { className: "node-mark" }, `node ${port}`);
  mark.style.setProperty("--hue", hueOfNode(port));
  return mark;
}

function time(at) {
  const date = new Date(at);
  return make("time", { dateTime: date.toISOString() }, date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
}

function fillAvatar(avatar, user, name) {
  const words = name.trim().split(/\s+/);
  avatar.textContent = words.slice(0, 2).map((word) => [...word][0]).join("").toUpperCase();
  let sum = 0;
  for (const character of user) sum = (sum * 31 + character.codePointAt(0)) % 360;
  avatar.style.setProperty("--hue", sum);
}

function fillBadge(badge, number) {
  badge.hidden = !number;
  badge.textContent = number > 99 ? "99+" : number || "";
}

/** Neighbouring ports get colours that are far apart. */
function hueOfNode(port) {
  return (port * 137.5) % 360;
}

/** As a reader expects: "room 9" before "room 10". */
export function compareNames(a, b) {
  return a.localeCompare(b, undefined, { numeric: true });
}

function inOrder(people) {
  return [...people].sort((a, b) => compareNames(a.name, b.name) || compareNames(a.user, b.user));
}

/** The button that was pressed is replaced with the list: keeps the keyboard, and the list, where they were. */
function replaceKeepingFocus(list, items) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  const { scrollTop } = list;
  list.replaceChildren(...items);
  list.scrollTop = scrollTop;
  if (focused) list.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/** In a plain text, keeps a name from turning the words around it. */
function isolated(name) {
  return `\u2068${name}\u2069`;
}

/** As the nodes count them. */
function characters(text) {
  return [...text.trim()].length;
}

/** Lets the form refuse what is too long; a field that cut it would say nothing. */
function checkLimit(field) {
  const most = Number(field.dataset.limit);
  const length = characters(field.value);
  field.setCustomValidity(length > most ? `At most ${most} characters: this has ${length}.` : "");
}

function grow(text) {
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 160)}px`;
}

export function size(bytes) {
  return bytes < 1024 * 1024 ? `${Math.ceil(bytes / 1024)} KB` : `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

function count(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
