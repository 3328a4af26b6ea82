// Small choices of this browser (theme, time zone, what was read), kept where storage is allowed.
import { useEffect, useState } from "./html.js";

const memory = new Map();
const listeners = new Set();

export function stored(name, fallback) {
  if (memory.has(name)) return memory.get(name);
  try {
    const text = localStorage.getItem(`otelkit.${name}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

/** Stores without a redraw: for what is decided while drawing. */
export function keep(name, value) {
  memory.set(name, value);
  try {
    localStorage.setItem(`otelkit.${name}`, JSON.stringify(value));
  } catch {
    // It lasts as long as the page, then.
  }
}

export function store(name, value) {
  keep(name, value);
  for (const listener of listeners) listener(name);
}

export function useStored(name, fallback) {
  const [, redraw] = useState(0);
  useEffect(() => {
    const listener = (changed) => changed === name && redraw((n) => n + 1);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, [name]);
  return [stored(name, fallback), (value) => store(name, value)];
}
