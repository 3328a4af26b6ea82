// The keyboard: j and k walk the rows of a view, / searches, esc goes back a step, ? explains, g and a letter change page.
import { go, goUp } from "./router.js";

const PAGES = {
  t: "/traces",
  l: "/logs",
  e: "/errors",
  m: "/metrics",
  s: "/map",
  q: "/queries",
  h: "/health",
  d: "/sql",
};

export const KEYS = [
  ["j / k", "next / previous row"],
  ["enter", "open the row"],
  ["← / →", "close / open a span's children"],
  ["z + - 0", "zoom a trace: to the row, in, out, all of it"],
  ["[ ]", "earlier and later in a zoomed trace"],
  ["/", "search"],
  ["p", "pause or resume the live view"],
  ["esc", "leave the search, close what is open, go up"],
  ["g then t l e m s q h d", "traces, logs, errors, metrics, service map, queries, health, SQL"],
  ["?", "this help"],
];

const typing = (target) => target.closest?.("input, textarea, select, [contenteditable]");

let leader = 0;

function step(direction) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
  if (!rows.length) return;
  const here = rows.indexOf(document.activeElement.closest?.("[data-row]"));
  const next = here < 0 ? (direction > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, here + direction));
  rows[next].focus();
  rows[next].scrollIntoView({ block: "nearest" });
}

/** A view may take keys first: it listens for "otelkit-key" and calls preventDefault(). */
function offered(key) {
  return !document.dispatchEvent(new CustomEvent("otelkit-key", { detail: key, cancelable: true }));
}

function pressed(event, onHelp) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return;
  const { key, target } = event;
  if (typing(target)) {
    if (key === "Escape") target.blur();
    return;
  }
  if (leader && performance.now() - leader < 1200 && PAGES[key]) {
    leader = 0;
    event.preventDefault();
    go(PAGES[key]);
    return;
  }
  leader = key === "g" ? performance.now() : 0;
  if (offered(key)) {
    event.preventDefault();
    return;
  }
  if (key === "j" || key === "k") step(key === "j" ? 1 : -1);
  else if (key === "/") document.querySelector("[data-search]")?.focus();
  else if (key === "?") onHelp();
  else if (key === "p") document.querySelector("[data-pause]")?.click();
  else if (key === "Escape") {
    if (!goUp()) document.activeElement.blur?.();
    return;
  } else return;
  event.preventDefault();
}

export function listen(onHelp) {
  const listener = (event) => pressed(event, onHelp);
  addEventListener("keydown", listener);
  return () => removeEventListener("keydown", listener);
}

/** Takes keys of a view before the page's own meaning: `keys` maps a key to a function that returns true if it took it. */
export function take(keys) {
  const listener = (event) => {
    if (keys[event.detail]?.()) event.preventDefault();
  };
  document.addEventListener("otelkit-key", listener);
  return () => document.removeEventListener("otelkit-key", listener);
}
