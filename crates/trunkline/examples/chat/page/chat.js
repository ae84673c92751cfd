// The chat page: connects the client, the conversations and the view.

import { LOBBY, Conversations } from "./conversations.js";
import { Names } from "./names.js";
import { connectToCluster } from "./trunkline-client.js";
import { View, compareNames, size } from "./view.js";

const TYPING_EVERY = 2000;
const TYPING_SHOWN = 4000;
const PICTURE_KINDS = ["image/png", "image/jpeg", "image/gif", "image/webp"];

// The nodes derive from the secret who this page is, and tell it: `me.user`, which everybody sees.
const me = { user: "", ...(remembered("me") ?? { secret: randomId(), name: "" }) };
const names = new Names();
const conversations = new Conversations(remembered("rooms") ?? [LOBBY], remembered("current"));
const view = new View(names, { open, enter, leave, write, send, retry, type, choose, switchNode, rename });
let client;
let here = Number(document.documentElement.dataset.port);
let nodes = [];
let typedAt = 0;
/** Attempts to connect that have failed since the last connection. */
let failures = 0;

start();

async function start() {
  render();
  if (!me.name) me.name = (await view.askName(suggestion(), false)) ?? suggestion();
  view.me(me);
  view.connection({ state: "connecting" });
  connect();
  render();
  view.focusText();
}

function connect() {
  client = connectToCluster(window.io, {
    nodes: [location.origin],
    auth: () => ({ secret: me.secret, name: me.name, rooms: conversations.rooms.map((room) => room.to) }),
  });
  client.on("ready", greeted);
  client.on("missed", missed);
  client.on("nodes", showNodes);
  client.on("message", (message) => received(conversations.room(message.to), message));
  client.on("private", (message, confirm) => {
    received(conversations.with(message.from.user, message.from.name), message);
    confirm(here);
  });
  client.on("typing", typing);
  client.on("disconnect", () => {
    failures = 0;
    view.connection({ state: "moving" });
    view.banner(`The connection to node ${here} is lost. Looking for another node…`);
  });
  client.on("connect_error", (error) => {
    if (client.trying) return unanswered();
    view.connection({ state: "refused" });
    view.banner(`The node has refused this page: ${error.message}`);
  });
}

/** Once every node has been tried it would be wrong to speak of a move. */
function unanswered() {
  failures += 1;
  if (failures < nodes.length) return;
  nodes = nodes.map((node) => ({ ...node, silent: true, ours: false, people: [] }));
  view.connection({ state: "unanswered" });
  view.banner("No node answers: all are stopped or out of reach. This page tries again every few seconds.");
  render();
}

function greeted({ node, user, nodes }) {
  const moved = node !== here;
  here = node;
  me.user = user;
  view.me(me);
  view.connection({ state: "online", node });
  view.banner(undefined);
  if (moved) conversations.notice(conversations.current, `You are on node ${node} now`);
  showNodes(nodes);
}

/** The page was away for longer than the history reaches back. What was written is kept nowhere else, so it can only say so. */
function missed() {
  for (const room of conversations.rooms) conversations.notice(room, "Some messages were missed");
  render();
}

function showNodes(latest) {
  nodes = latest;
  for (const person of nodes.flatMap((node) => node.people)) names.note(person);
  // Behind a balancer, whose port is that of no node, only the balancer can be reached.
  const isDirect = nodes.some((node) => new URL(address(node.port)).origin === location.origin);
  if (isDirect) client.nodes = nodes.map((node) => address(node.port));
  render();
}

function received(conversation, message) {
  names.note(message.from);
  if (conversations.receive(conversation, message)) render();
}

function typing({ from, to, private: alone }) {
  const conversation = alone ? conversations.with(from.user, from.name) : conversations.room(to);
  clearTimeout(conversation.typing.get(from.user)?.timer);
  const timer = setTimeout(() => {
    conversation.typing.delete(from.user);
    render();
  }, TYPING_SHOWN);
  conversation.typing.set(from.user, { name: from.name, timer });
  render();
}

// What the reader does.

function open(conversation) {
  conversations.open(conversation);
  view.problem(undefined);
  render();
}

async function enter(name) {
  const known = conversations.rooms.find((room) => room.to === name);
  const room = known ?? conversations.room(name);
  open(room);
  if (known) return;
  room.entered = client.request("join", name);
  const { error } = await room.entered;
  if (!error) return;
  conversations.leave(conversations.room(name));
  view.problem(error);
  render();
}

function leave() {
  const room = conversations.current;
  conversations.leave(room);
  client.request("leave", room.to);
  render();
}

function write(person) {
  open(conversations.with(person.user, person.name));
}

function send(text, pictures) {
  typedAt = 0;
  const entry = { id: randomId(), from: me, node: here, at: Date.now(), text, pictures };
  post(conversations.current, entry);
}

function retry(conversation, entry) {
  post(conversation, { ...entry, why: undefined });
}

async function post(conversation, entry) {
  conversations.draft(conversation, entry);
  render();
  const { id, text, pictures } = entry;
  const event = conversation.private ? "private" : "message";
  // The node takes requests side by side, and refuses a message to a room that it has not let the page into.
  await conversation.entered;
  const { error, delivered } = await client.request(event, { id, to: conversation.to, text, pictures });
  if (error) Object.assign(entry, { state: "failed", why: error });
  // A room's message counts as sent when it comes back, see `received`.
  else if (conversation.private) Object.assign(entry, { state: "delivered", confirmedBy: delivered });
  render();
}

function type() {
  const now = Date.now();
  if (now - typedAt < TYPING_EVERY) return;
  typedAt = now;
  const { to, private: alone } = conversations.current;
  client.hint("typing", { to, private: alone });
}

async function choose(file) {
  view.problem(undefined);
  if (!PICTURE_KINDS.includes(file.type)) return view.problem(`“${file.name}” is not a PNG, JPEG, GIF or WebP picture.`);
  if (file.size > view.pictureLimit) {
    return view.problem(`“${file.name}” has ${size(file.size)}. A picture may have at most ${size(view.pictureLimit)}.`);
  }
  view.attach({ kind: file.type, name: file.name, data: await file.arrayBuffer() });
}

async function switchNode(port, run) {
  const { error } = await client.request("switch", { port, run });
  if (error) view.problem(error);
  render();
}

async function rename() {
  const name = await view.askName(me.name, true);
  if (!name || name === me.name) return;
  const { error } = await client.request("rename", name);
  if (error) return view.problem(error);
  me.name = name;
  view.me(me);
  render();
}

// What is shown.

function render() {
  const current = conversations.current;
  const rooms = conversations.rooms.map((room) => room.to);
  const people = nodes.flatMap((node) => node.people);
  const inRoom = (name) => (isCutOff() ? undefined : people.filter((person) => person.rooms.includes(name)).length);
  const inOrder = [...new Set([...rooms, LOBBY, ...people.flatMap((person) => person.rooms)])];
  inOrder.sort((a, b) => (b === LOBBY) - (a === LOBBY) || compareNames(a, b));
  view.conversations(
    inOrder.map((name) => ({ name, people: inRoom(name), conversation: conversations.rooms.find((room) => room.to === name) })),
    conversations.privates.map((conversation) => ({ conversation, online: whereIs(conversation.to) })),
    current,
    conversations.unreadElsewhere,
  );
  view.title(current, about(current, inRoom), !current.private && current.to !== LOBBY);
  view.typing([...current.typing].map(([user, { name }]) => ({ user, name })));
  view.messages(current, me);
  view.nodes(nodes, here, me);
  remember();
}

function about(conversation, inRoom) {
  if (isCutOff()) return "";
  if (!conversation.private) return `${inRoom(conversation.to)} in this room`;
  const node = nodeOf(conversation.to);
  return node ? `private · online on node ${node}` : "private · offline";
}

/** Whether no node answers. */
function isCutOff() {
  return nodes.some((node) => node.silent);
}

function whereIs(user) {
  if (isCutOff()) return "";
  const node = nodeOf(user);
  return node ? `node ${node}` : "offline";
}

function nodeOf(user) {
  return nodes.find((node) => node.people.some((person) => person.user === user))?.port;
}

// What is kept when the page is loaded again, for this tab only: a second tab is a second person.

function remember() {
  sessionStorage.setItem("me", JSON.stringify({ secret: me.secret, name: me.name }));
  sessionStorage.setItem("rooms", JSON.stringify(conversations.rooms.map((room) => room.to)));
  sessionStorage.setItem("current", JSON.stringify(conversations.current.private ? LOBBY : conversations.current.to));
}

function remembered(key) {
  return JSON.parse(sessionStorage.getItem(key) ?? "null") ?? undefined;
}

function address(port) {
  return `${location.protocol}//${location.hostname}:${port}`;
}

/** Not `crypto.randomUUID`, which a page has only over HTTPS or on this very machine. */
function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function suggestion() {
  const first = ["Amber", "Coral", "Hazel", "Indigo", "Olive", "Ruby", "Silver", "Teal"];
  const second = ["Badger", "Falcon", "Heron", "Lynx", "Otter", "Robin", "Stork", "Wren"];
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  return `${pick(first)} ${pick(second)}`;
}
