// The newest of a list, streaming in, with a pause: new ones then wait until it goes on.
import { useState } from "./html.js";
import { useBatches, useLive } from "./live.js";
import { useSearch } from "./search.js";

/**
 * Searches `/api/v1/search/<path>` for `asked`, and streams what comes after it by `kind` while `live` (a filter) takes it.
 * Elements are told apart by their `id`, sorted by their `time`, both names of fields; no more than `most` are held.
 */
export function useNewest(path, { asked, live, kind, id, time, most }) {
  const [items, setItems] = useState([]);
  const [paused, setPaused] = useState(false);
  const [waiting, setWaiting] = useState([]);
  const [fresh, setFresh] = useState(() => new Set());

  /** Newer ones on top, each once, as it was told last. */
  const merged = (old, more) => {
    const byId = new Map(old.map((one) => [one[id], one]));
    for (const one of more) byId.set(one[id], one);
    return [...byId.values()].sort((a, b) => b[time] - a[time]).slice(0, most);
  };
  const begin = (changed) => {
    setItems(changed);
    setWaiting([]);
    setFresh(new Set());
  };
  const search = useSearch(path, asked, {
    onFirst: begin,
    onMore: (more) => setItems((old) => [...old, ...more.filter((one) => !old.some((there) => there[id] === one[id]))]),
    // What came meanwhile stays.
    onAgain: (found) => begin((old) => merged(found, old.filter((one) => one[time] > (found[0]?.[time] ?? 0)))),
  });
  const add = useBatches((batch) => {
    if (paused) setWaiting((old) => merged(old, batch));
    else {
      setFresh(new Set(batch.map((one) => one[id])));
      setItems((old) => merged(old, batch));
    }
  });
  const handlers = { [kind]: add, stats: ({ missed }) => missed && !paused && search.again() };
  const state = useLive(live, handlers, { open: !asked.to && !search.error, onReturn: () => paused || search.again() });
  const pause = () => {
    if (paused) setItems((old) => merged(old, waiting));
    setWaiting([]);
    setPaused(!paused);
  };
  return { items, fresh, paused, waiting: waiting.length, state, search, pause };
}
