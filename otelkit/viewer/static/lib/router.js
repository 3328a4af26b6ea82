// Every view has a URL: the path names it, the parameters are all of its state that is worth sharing.
import { useEffect, useState } from "./html.js";

const listeners = new Set();

const lists = new Map();

function read() {
  // The lists as they were left, filter and all: "up" from an item goes back to them.
  if (/^\/[a-z]+$/.test(location.pathname)) lists.set(location.pathname, location.pathname + location.search);
  return { path: location.pathname, params: new URLSearchParams(location.search) };
}

function changed() {
  for (const listener of listeners) listener(read());
}

/** Goes to a path of the page; `replace` leaves no step in the history. */
export function go(url, { replace = false } = {}) {
  if (url === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  changed();
}

/** From an item to its list, as that was left; false where there is no way up. */
export function goUp() {
  const list = location.pathname.match(/^(\/[a-z]+)\/./)?.[1];
  if (list) go(lists.get(list) ?? list);
  return Boolean(list);
}

/** A URL of the page: parameters that are empty are left out. */
export function url(path, params = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) search.set(name, value);
  }
  const text = search.toString();
  return text ? `${path}?${text}` : path;
}

/** Changes single parameters of the present URL. */
export function setParams(changes, options) {
  const params = Object.fromEntries(new URLSearchParams(location.search));
  go(url(location.pathname, { ...params, ...changes }), options);
}

export function useRoute() {
  const [route, setRoute] = useState(read);
  useEffect(() => {
    listeners.add(setRoute);
    return () => listeners.delete(setRoute);
  }, []);
  return route;
}

addEventListener("popstate", changed);

// Plain links stay plain: copied, opened in a tab, middle-clicked; only an ordinary click is ours.
addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest?.("a[href]");
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (/^\/(api|static|v1)\//.test(link.pathname)) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
