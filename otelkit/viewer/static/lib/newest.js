// The newest of a list, streaming in, with a pause: new ones then wait until it goes on.
import { useEffect, useState } from "./html.js";
import { ask, useAsk } from "./api.js";
import { useBatches, useLive } from "./live.js";

/**
 * Asks `/api/v1/<path>` for `asked`, and streams what comes after it by `kind` while `live` (a filter) takes it. Elements are
 * told apart by their `id`, sorted by their `time`, both names of fields; no more than `most` are held.
 */
export function useNewest(path, { asked, live, kind, id, time, most }) {
  const { data, error, loading, again } = useAsk(path, asked);
  const [items, setItems] = useState([]);
  const [next, setNext] = useState(null);
  const [paused, setPaused] = useState(false);
  const [waiting, setWaiting] = useState([]);
  const [fresh, setFresh] = useState(() => new Set());

  useEffect(() => {
    setItems(data?.[path] ?? []);
    setNext(data?.next ?? null);
    setWaiting([]);
    setFresh(new Set());
  }, [data]);

  /** Newer ones on top, each once, as it was told last. */
  const merged = (old, more) => {
    const byId = new Map(old.map((one) => [one[id], one]));
    for (const one of more) byId.set(one[id], one);
    return [...byId.values()].sort((a, b) => b[time] - a[time]).slice(0, most);
  };
  const add = useBatches((batch) => {
    if (paused) setWaiting((old) => merged(old, batch));
    else {
      setFresh(new Set(batch.map((one) => one[id])));
      setItems((old) => merged(old, batch));
    }
  });
  const handlers = { [kind]: add, stats: ({ missed }) => missed && !paused && again() };
  const state = useLive(live, handlers, { open: !asked.to && !error, onReturn: () => paused || again() });
  const pause = () => {
    if (paused) setItems((old) => merged(old, waiting));
    setWaiting([]);
    setPaused(!paused);
  };
  const older = async () => {
    const more = await ask(path, { ...asked, before: next });
    setItems((old) => [...old, ...more[path].filter((one) => !old.some((there) => there[id] === one[id]))]);
    setNext(more.next);
  };
  return { items, next, fresh, paused, waiting: waiting.length, state, error, loading, again, pause, older };
}
