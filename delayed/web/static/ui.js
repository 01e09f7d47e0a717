// Keeps a page up to date, marks rows together, and knows some keys. Without it all pages work, too.

const body = document.body;
const said = document.getElementById("live");
let stale = false;
let asking = false;
const hold = document.getElementById("hold");
let held = sessionStorage.getItem("held") === "yes";

// Whether somebody is in the middle of something that a new page would undo.
function busy() {
  const here = document.activeElement;
  const typing = here && here.closest("main") && here.matches("input:not([type=checkbox]), textarea, select");
  const marked = document.querySelector("main input[type=checkbox]:checked");
  return Boolean(typing || marked || document.querySelector("main details[open]"));
}

// Puts `fresh` in the place of `old`, and leaves alone what is the same: so the focus and the scrolling stay.
function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const same = old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName;
  if (!same || old.nodeType !== Node.ELEMENT_NODE || !old.firstElementChild) {
    old.replaceWith(fresh.cloneNode(true));
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((child, at) => (at < before.length ? morph(before[at], child) : old.append(child.cloneNode(true))));
  before.slice(after.length).forEach((child) => child.remove());
}

async function refresh() {
  if (document.hidden || asking || held || busy()) {
    stale = true;
    return;
  }
  stale = false;
  asking = true;
  try {
    const reply = await fetch(location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    if (reply.redirected || !page.getElementById("main")) return;
    if (!busy()) {
      morph(document.getElementById("main"), page.getElementById("main"));
      morph(document.querySelector("footer span"), page.querySelector("footer span"));
    } else stale = true;
    said.textContent = "";
  } catch {
    said.textContent = "the server cannot be reached";
    stale = true;
  } finally {
    asking = false;
  }
}

// One stream of changes, while the page is seen.
let stream = null;
function watch() {
  if (document.hidden) {
    stream?.close();
    stream = null;
  } else if (!stream && body.dataset.live) { // what a form has done stays as it is
    stream = new EventSource(body.dataset.live);
    stream.addEventListener("changed", refresh);
    stream.addEventListener("error", () => (said.textContent = "the server cannot be reached"));
    stream.addEventListener("open", () => (said.textContent = ""));
  }
}
function showHeld() {
  hold.hidden = false;
  hold.setAttribute("aria-pressed", String(held));
  hold.textContent = held ? "Updates are paused" : "Pause updates";
}
hold.addEventListener("click", () => {
  held = !held;
  sessionStorage.setItem("held", held ? "yes" : "no");
  showHeld();
});
// The reply to a form is what it is: it cannot be asked for again.
if (body.dataset.live) {
  showHeld();
  document.addEventListener("visibilitychange", watch);
  setInterval(() => (stale || document.querySelector("main [data-unfinished]")) && refresh(), 1000);
  watch();
}

document.addEventListener("change", ({ target }) => {
  if (!target.matches("[data-all]")) return;
  for (const box of target.closest("table").querySelectorAll("tbody input[type=checkbox]")) box.checked = target.checked;
});

const KEYS = { o: "Overview", t: "Tasks", d: "Dead letters", f: "Workflows", w: "Workers", s: "Schedules" };
let going = false;

function help() {
  const box = document.createElement("dialog");
  const list = document.createElement("dl");
  const rows = [["/", "search"], ["?", "this list"], ...Object.entries(KEYS).map(([key, name]) => [`g ${key}`, name])];
  for (const [key, name] of rows) {
    list.append(Object.assign(document.createElement("dt"), { textContent: key }));
    list.append(Object.assign(document.createElement("dd"), { textContent: name }));
  }
  const close = Object.assign(document.createElement("button"), { textContent: "Close" });
  close.addEventListener("click", () => box.close());
  box.addEventListener("close", () => box.remove());
  box.setAttribute("aria-label", "Keys");
  box.append(list, close);
  body.append(box);
  box.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  if (event.key === "/") {
    event.preventDefault();
    document.querySelector("header input[name=q]").focus();
  } else if (event.key === "?") help();
  else if (going && KEYS[event.key]) {
    [...document.querySelectorAll("nav a")].find((link) => link.textContent === KEYS[event.key])?.click();
  }
  going = event.key === "g";
});
