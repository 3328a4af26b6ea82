// What arrives while the page is open. A tab that nobody sees holds no connection: a browser gives one server only six.
import { useEffect, useRef, useState } from "./html.js";
import { url } from "./router.js";

const KINDS = ["trace", "log", "error", "stats"];

/**
 * Streams to `handlers` (by kind of event) while `open` is true. Returns "on", "off" or "lost"; `onReturn` is called when
 * the stream is back after a gap, for then something may have been missed.
 */
export function useLive(query, handlers, { open = true, onReturn } = {}) {
  const [state, setState] = useState("off");
  const current = useRef(handlers);
  current.current = { ...handlers, onReturn };

  useEffect(() => {
    if (!open) {
      setState("off");
      return undefined;
    }
    let source = null;
    let gap = false;
    let retry = 0;

    const connect = () => {
      clearTimeout(retry);
      if (source || document.hidden) return;
      source = new EventSource(url("/api/v1/live", { q: query }));
      source.onopen = () => {
        setState("on");
        if (gap) current.current.onReturn?.();
        gap = false;
      };
      source.onerror = () => {
        gap = true;
        setState("lost");
        if (source?.readyState !== EventSource.CLOSED) return;
        // The browser gave up (the answer was an error): it is asked again, since the viewer may come back.
        source = null;
        retry = setTimeout(connect, 3000);
      };
      for (const kind of KINDS) {
        source.addEventListener(kind, (event) => {
          // A connection that breaks is an "error" event as well, without data.
          if (event.data) current.current[kind]?.(JSON.parse(event.data));
        });
      }
    };
    const close = () => {
      clearTimeout(retry);
      source?.close();
      source = null;
    };
    const visibility = () => {
      if (document.hidden) {
        gap = true;
        close();
      } else connect();
    };
    connect();
    document.addEventListener("visibilitychange", visibility);
    return () => {
      document.removeEventListener("visibilitychange", visibility);
      close();
    };
  }, [query, open]);

  return state;
}

/** Collects what arrives and hands it over at most every `everyMs`: a thousand traces a second redraw the page five times. */
export function useBatches(onBatch, everyMs = 200) {
  const waiting = useRef([]);
  const timer = useRef(0);
  const call = useRef(onBatch);
  call.current = onBatch;
  useEffect(() => () => clearTimeout(timer.current), []);
  return (item) => {
    waiting.current.push(item);
    timer.current ||= setTimeout(() => {
      const batch = waiting.current;
      waiting.current = [];
      timer.current = 0;
      call.current(batch);
    }, everyMs);
  };
}
