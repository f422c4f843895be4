// What the node tells is kept in `peers`, `keys` and `events`, and drawn at most once a frame. It comes from other machines, so
// it reaches the page as text and as numbers only: no string is ever read as markup, as a style or as a script.
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const MAX_ROWS = 500; // of a table; whatever else there is, the filter finds
const MAX_PHIS = 60;
const QUIET = 30_000; // milliseconds without a word after which what is shown is old
const RANKS = { dead: 0, suspected: 1, live: 2, left: 3 };
const LASTING = { "new peer": "live", "peer live": "live", "peer dead": "dead", "peer left": "left", error: "suspected" };

let node = { id: "", dead_phi: 8, max_keys: 5000, max_events: 200, began: 0 };
let peers = new Map(); // id -> what is known of it
let phis = new Map(); // id -> the last values of phi
let keys = new Map(); // peer and key -> what is known of it; what changed last comes last
let events = []; // newest first
let fresh = new Set(); // keys that have changed since they were drawn
let now = 0; // by the clock of the node
let selected = null; // the id of the peer that was chosen
const orders = { "peer-table": { by: "state", down: false }, "key-table": { by: "time", down: true } };

// Elements

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element[key] = value;
  element.append(...children);
  return element;
}

function draw(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Let the children be these, in this order, and keep the focus where it is.
function arrange(parent, children) {
  const wanted = new Set(children);
  const focused = document.activeElement;
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

// Words

const natural = new Intl.Collator(undefined, { numeric: true }).compare;
const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function span(seconds) {
  if (seconds === null) return "never";
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

function changed(time) {
  if (time === null) return `before ${clock(node.began)}`;
  return now - time < 86_400_000 ? clock(time) : new Date(time).toLocaleString([], { hour12: false });
}

function stateOf(peer) {
  return peer.state === "live" && peer.phi > node.dead_phi / 2 ? "suspected" : peer.state;
}

function ordered(list, { by, down }, value) {
  const found = list.map((each) => [value(each, by), each]);
  found.sort(([a], [b]) => (typeof a === "number" ? a - b : natural(a, b)));
  if (down) found.reverse();
  return found.map(([, each]) => each);
}

// What comes

function take(told, everything) {
  now = told.time;
  if (everything) {
    node = told.node;
    keys = new Map();
    events = [];
    phis = new Map(Object.entries(told.phis));
  }
  if (told.peers) {
    const before = peers;
    peers = new Map(told.peers.map((peer) => [peer.id, peer]));
    for (const [id, peer] of peers) {
      if (!phis.has(id)) phis.set(id, []);
      if (!everything) phis.get(id).push(peer.phi);
      phis.get(id).splice(0, phis.get(id).length - MAX_PHIS);
    }
    for (const id of phis.keys()) if (!peers.has(id)) phis.delete(id);
    if (before.size) announce(before);
  }
  for (const each of told.keys) {
    const name = JSON.stringify([each.peer, each.key]);
    const old = keys.get(name);
    keys.delete(name);
    if (each.removed) continue;
    keys.set(name, each);
    if (!everything && old?.text !== each.text) fresh.add(name);
  }
  for (const name of keys.keys()) {
    if (keys.size <= node.max_keys) break;
    keys.delete(name);
  }
  if (told.events.length) {
    const came = new Set(told.events.filter((each) => each.event === "error").map((each) => `${each.peer} ${each.text}`));
    events = events.filter((each) => each.event !== "error" || !came.has(`${each.peer} ${each.text}`)); // it moves up
    events = [...told.events, ...events].sort((a, b) => b.number - a.number).slice(0, 2 * node.max_events);
  }
  redraw();
}

// Say to those who do not see the page what matters, in one sentence.
function announce(before) {
  const said = [];
  for (const [id, peer] of peers) {
    const state = stateOf(peer);
    if (!before.has(id)) said.push(`${id} is new`);
    else if (stateOf(before.get(id)) !== state) said.push(`${id} is ${state}`);
  }
  for (const id of before.keys()) if (!peers.has(id)) said.push(`${id} is forgotten`);
  if (said.length) $("said").textContent = said.length > 5 ? `${said.length} peers have changed` : said.join(", ");
}

// Peers

const peerRows = new Map();

function peerRow(id) {
  const pick = make("button", { textContent: id, onclick: () => select(selected === id ? null : id) });
  const state = make("span");
  const line = draw("polyline");
  const picture = draw("svg", { viewBox: "0 0 60 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  picture.append(draw("line", { x1: 0, x2: 60, y1: 2, y2: 2 }), line);
  const phi = make("span");
  const [heard, count, address] = [0, 0, 0].map(() => make("td", { className: "number" }));
  const own = make("span", { className: "me" });
  const row = make("tr", {}, make("td", {}, pick, own), make("td", {}, state));
  row.append(make("td", { className: "number" }, picture, phi), heard, count, address);
  return { row, pick, own, state, line, phi, heard, count, address };
}

function drawPeers() {
  const text = $("peer-filter").value.trim().toLowerCase();
  const wanted = $("state-filter").value;
  const shown = [...peers.values()].filter((peer) => {
    const state = stateOf(peer);
    const fits = !wanted || state === wanted || (wanted === "trouble" && state !== "live" && state !== "left");
    return fits && `${peer.id} ${peer.address}`.toLowerCase().includes(text);
  });
  const byId = ordered(shown, { by: "id", down: false }, (peer) => peer.id);
  const list = ordered(byId, orders["peer-table"], (peer, by) => {
    if (by === "state") return RANKS[stateOf(peer)];
    return by === "heard" ? (peer.heard ?? Infinity) : peer[by];
  });
  const rows = list.slice(0, MAX_ROWS).map((peer) => {
    const state = stateOf(peer);
    if (!peerRows.has(peer.id)) peerRows.set(peer.id, peerRow(peer.id));
    const parts = peerRows.get(peer.id);
    write(parts.own, peer.local ? " this node" : "");
    write(parts.state, state);
    parts.state.className = `state ${state}`;
    write(parts.phi, peer.local ? "" : peer.phi.toFixed(peer.phi < 100 ? 2 : 0));
    const values = phis.get(peer.id) ?? [];
    const points = values.map((phi, index) => {
      return `${60 - values.length + index + 0.5},${(20 - (18 * Math.min(phi, node.dead_phi)) / node.dead_phi).toFixed(1)}`;
    });
    parts.line.setAttribute("points", points.join(" "));
    write(parts.heard, peer.local ? "" : span(peer.heard));
    write(parts.count, String(peer.keys));
    write(parts.address, peer.address);
    parts.pick.ariaPressed = String(peer.id === selected);
    parts.row.classList.toggle("selected", peer.id === selected);
    return parts.row;
  });
  for (const id of peerRows.keys()) if (!peers.has(id)) peerRows.delete(id);
  arrange($("peer-table").tBodies[0], rows);
  write($("peer-count"), rows.length === peers.size ? "" : `${rows.length} of ${plural(peers.size, "peer")}`);
}

function drawCounts() {
  const counts = { live: 0, suspected: 0, dead: 0, left: 0 };
  for (const peer of peers.values()) counts[stateOf(peer)] += 1;
  const words = Object.entries(counts).filter(([, count]) => count).map(([state, count]) => `${count} ${state}`);
  const text = `${plural(peers.size, "node")}: ${words.join(", ")}`;
  write($("map-title"), text);
  if ($("counts").dataset.text !== text) {
    $("counts").dataset.text = text;
    $("counts").replaceChildren(`${plural(peers.size, "node")} `);
    for (const [state, count] of Object.entries(counts)) {
      if (count) $("counts").append(make("span", { className: `state ${state}`, textContent: `${count} ${state}` }), " ");
    }
  }
  document.title = `${counts.dead ? `${counts.dead} dead · ` : ""}${node.id} · gossipmonger`;
  write($("node"), node.id || "this node");
  write($("cluster"), node.cluster ? `, cluster ${node.cluster}` : "");
}

function select(id) {
  selected = id;
  $("all-peers").hidden = id === null;
  write($("all-peers"), id === null ? "" : `Only ${id}: show all`);
  redraw();
}

// The picture: a peer's angle is its place among all ids, its distance from the middle is phi. Whoever is in trouble has a label,
// the others too if they are few.

const dots = new Map();
const CROSS = [[-2, -1], [-1, -2], [0, -1], [1, -2], [2, -1], [1, 0], [2, 1], [1, 2], [0, 1], [-1, 2], [-2, 1], [-1, 0]];
const SHAPES = {
  dead: (r) => `M${CROSS.map(([x, y]) => `${(x * r) / 2} ${(y * r) / 2}`).join("L")}Z`,
  suspected: (r) => `M0 ${-r * 1.2}L${r * 1.2} ${r}L${-r * 1.2} ${r}Z`,
  live: (r) => `M${-r} 0A${r} ${r} 0 1 1 ${r} 0A${r} ${r} 0 1 1 ${-r} 0Z`,
};
SHAPES.left = SHAPES.live;
const [WIDE, HIGH] = [600, 490]; // half of the picture
const [INNER, EDGE, OUTER, LEFT] = [270, 390, 425, 450]; // radii, if labels have room beside them
const FEW = 40;
const CHARACTER = 0.58; // how wide one is, for its height

function place(others, scale) {
  return others.map((peer, index) => {
    const angle = (2 * Math.PI * (index + 0.5)) / others.length - Math.PI / 2;
    const state = stateOf(peer);
    const near = INNER + (EDGE - INNER) * Math.min(1, Math.max(0, peer.phi) / node.dead_phi);
    const radius = scale * (state === "dead" ? OUTER : state === "left" ? LEFT : Math.min(near, EDGE - 12));
    return { peer, state, x: radius * Math.cos(angle), y: radius * Math.sin(angle) };
  });
}

// Give labels to as many as have room on one side, and move them apart.
function label(placed, side, letters, gap, scale) {
  const line = letters * 1.15;
  const most = Math.floor((2 * HIGH) / line);
  const rank = ({ peer, state }) => (peer.id === selected ? -1 : RANKS[state]);
  const chosen = placed.sort((a, b) => rank(a) - rank(b)).slice(0, most).sort((a, b) => a.y - b.y);
  let next = -HIGH + line / 2;
  for (const each of chosen) next = (each.labelY = Math.max(each.y, next)) + line;
  next = HIGH - line / 2;
  for (const each of chosen.reverse()) next = (each.labelY = Math.min(each.labelY, next)) - line;
  for (const each of chosen) {
    const moved = Math.abs(each.labelY - each.y) > line / 3;
    const beyond = moved ? Math.sqrt(Math.max(0, (scale * LEFT) ** 2 - each.labelY ** 2)) + gap : 0;
    each.labelX = side * Math.max(Math.abs(each.x) + each.r + gap, beyond);
    each.moved = moved;
    const room = Math.floor((WIDE - Math.abs(each.labelX)) / (letters * CHARACTER));
    const letter = [...each.peer.id];
    each.label = letter.length > room ? `${letter.slice(0, room - 1).join("")}…` : each.peer.id;
  }
}

function dotOf(id) {
  if (!dots.has(id)) {
    const [group, line, path, text, title] = ["g", "line", "path", "text", "title"].map((name) => draw(name));
    group.append(title, line, path, text);
    group.addEventListener("click", () => select(selected === id ? null : id));
    $("map").append(group);
    dots.set(id, { group, line, path, text, title });
  }
  return dots.get(id);
}

function drawPicture() {
  const map = $("map");
  const unit = (2 * WIDE) / Math.max(200, map.clientWidth); // of the picture, for a pixel
  const letters = 12 * unit;
  const scale = Math.min(1, (WIDE - 8 * CHARACTER * letters - 12 * unit) / LEFT);
  if (!map.querySelector(".edge")) map.append(draw("circle", { class: "circle" }), draw("circle", { class: "circle edge" }));
  map.querySelector(".circle").setAttribute("r", INNER * scale);
  map.querySelector(".edge").setAttribute("r", EDGE * scale);
  const others = ordered([...peers.values()].filter((peer) => !peer.local), { by: "id", down: false }, (peer) => peer.id);
  const placed = place(others, scale);
  const size = Math.max(Math.min((2 * Math.PI * INNER * scale) / Math.max(1, others.length) / 2.4, 20), 1.7 * unit);
  for (const each of placed) each.r = each.state === "live" ? size : Math.max(size, 5 * unit);
  const named = placed.filter(({ peer, state }) => others.length <= FEW || state !== "live" || peer.id === selected);
  for (const side of [-1, 1]) label(named.filter(({ x }) => (x < 0 ? -1 : 1) === side), side, letters, 5 * unit, scale);
  for (const peer of peers.values()) {
    if (!peer.local) continue;
    placed.push({ peer, state: stateOf(peer), x: 0, y: 0, r: 24, label: peer.id, labelX: 0, labelY: 24 + letters });
  }
  for (const { peer, state, x, y, r, label: text = "", labelX = x, labelY = y, moved } of placed) {
    const dot = dotOf(peer.id);
    dot.group.setAttribute("class", `${state}${peer.id === selected ? " selected" : ""}`);
    dot.group.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
    dot.path.setAttribute("d", SHAPES[state](r));
    dot.line.setAttribute("x2", moved ? labelX - x : 0);
    dot.line.setAttribute("y2", moved ? labelY - y : 0);
    write(dot.title, `${peer.id}: ${state}${peer.local ? "" : `, phi ${peer.phi}, heard ${span(peer.heard)}`}`);
    write(dot.text, text);
    dot.text.setAttribute("font-size", letters);
    dot.text.setAttribute("x", labelX - x);
    dot.text.setAttribute("y", labelY - y);
    dot.text.setAttribute("text-anchor", peer.local ? "middle" : x < 0 ? "end" : "start");
  }
  for (const [id, dot] of dots) {
    if (!peers.has(id)) {
      dot.group.remove();
      dots.delete(id);
    }
  }
}

// Keys

const keyRows = new Map();

function keyRow(each) {
  const code = make("code");
  const whole = make("a", { textContent: "all of it", hidden: true });
  whole.href = `v1/keys/${encodeURIComponent(each.key.replace(/\p{Surrogate}/gu, "\ufffd"))}?all`;
  const when = make("time");
  const row = make("tr", {}, make("td", { textContent: each.key }), make("td", {}, code, whole));
  row.append(make("td", { textContent: each.peer }), make("td", { className: "when" }, when));
  return { row, code, whole, when };
}

function drawKeys() {
  const text = $("key-filter").value.trim().toLowerCase();
  const found = [...keys.entries()].filter(([, each]) => {
    if (selected !== null && each.peer !== selected) return false;
    return !text || `${each.key}\n${each.text}\n${each.peer}`.toLowerCase().includes(text);
  });
  const list = ordered(found, orders["key-table"], ([, each], by) => (by === "time" ? (each.time ?? 0) : each[by]));
  const shown = list.slice(0, MAX_ROWS);
  const drawn = new Set();
  const rows = shown.map(([name, each]) => {
    drawn.add(name);
    if (!keyRows.has(name)) keyRows.set(name, keyRow(each));
    const parts = keyRows.get(name);
    write(parts.code, each.text + (each.cut ? " …" : ""));
    parts.whole.hidden = !each.cut;
    write(parts.when, changed(each.time));
    parts.when.title = each.time === null ? "" : new Date(each.time).toLocaleString();
    parts.row.classList.toggle("gone", Boolean(each.gone));
    parts.row.title = each.gone ? "Its peer is not live" : "";
    parts.row.classList.remove("new");
    if (fresh.has(name)) {
      void parts.row.offsetWidth; // so that the animation begins again
      parts.row.classList.add("new");
    }
    return parts.row;
  });
  fresh = new Set();
  for (const name of keyRows.keys()) if (!drawn.has(name)) keyRows.delete(name);
  arrange($("key-table").tBodies[0], rows);
  const most = keys.size >= node.max_keys ? "last changed " : "";
  const part = shown.length < keys.size ? `${shown.length} of ` : "";
  write($("key-count"), part || most ? `${part}${most}${plural(keys.size, "key")}` : "");
}

// Events

const eventRows = new Map();

function drawEvents() {
  const wanted = $("event-filter").value;
  const shown = events.filter((each) => {
    const about = each.event === "update" || each.event === "delete" ? "keys" : "peers";
    return !wanted || wanted === about;
  });
  const rows = shown.slice(0, node.max_events).map((each) => {
    if (!eventRows.has(each.number)) {
      const key = each.key === undefined ? "" : each.text === undefined ? each.key : `${each.key} = ${each.text}`;
      const what = [each.peer, key || each.text, each.times > 1 ? `(${each.times} times)` : ""].filter(Boolean).join(" · ");
      const name = make("span", { className: LASTING[each.event] ?? "", textContent: each.event });
      eventRows.set(each.number, make("li", {}, make("time", { textContent: clock(each.time) }), name,
        make("span", { className: "about", textContent: what })));
    }
    return eventRows.get(each.number);
  });
  const numbers = new Set(events.map((each) => each.number));
  for (const number of eventRows.keys()) if (!numbers.has(number)) eventRows.delete(number);
  arrange($("event-list"), rows);
}

// Drawing and its controls

let due = false;

function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    drawCounts();
    drawPeers();
    drawPicture();
    drawKeys();
    drawEvents();
  });
}

for (const id of Object.keys(orders)) {
  $(id).tHead.addEventListener("click", (event) => {
    const by = event.target.dataset.by;
    if (!by) return;
    const order = orders[id];
    order.down = order.by === by ? !order.down : by === "time" || by === "phi" || by === "keys";
    order.by = by;
    for (const button of $(id).tHead.querySelectorAll("button")) {
      button.parentElement.ariaSort = button.dataset.by !== by ? "none" : order.down ? "descending" : "ascending";
    }
    redraw();
  });
}
for (const id of ["peer-filter", "state-filter", "key-filter", "event-filter"]) $(id).addEventListener("input", redraw);
$("all-peers").addEventListener("click", () => {
  select(null);
  $("key-filter").focus();
});
new ResizeObserver(redraw).observe($("map"));

// The connection

let heard = 0; // when the node told something last
let lost = false;

function connected() {
  heard = Date.now();
  if (lost || $("connection").textContent !== "Connected") write($("connection"), "Connected");
  lost = false;
  document.body.classList.remove("stale");
}

function disconnected() {
  if (lost) return;
  lost = true;
  document.body.classList.add("stale");
  write($("connection"), heard ? `Connection lost: this is what was known at ${clock(heard)}` : "No connection; trying again");
}

function connect() {
  const source = new EventSource("v1/events");
  for (const name of ["everything", "news"]) {
    source.addEventListener(name, (event) => {
      connected();
      take(JSON.parse(event.data), name === "everything");
    });
  }
  source.addEventListener("error", () => {
    disconnected();
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5_000); // it was refused, and would not try again
  });
}

setInterval(() => {
  if (heard && Date.now() - heard > QUIET) disconnected();
}, 5_000);
connect();
