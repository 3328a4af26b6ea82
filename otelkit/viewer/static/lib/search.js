// A list as it is found: a search tells what there is so far, the newest first, can be stopped, and gone on with.
import { useEffect, useRef, useState } from "./html.js";
import { askParts } from "./api.js";
import { url } from "./router.js";

const NOTHING = { parts: 0, searched: 0, backTo: null, next: null, cut: null, error: null };

/**
 * Searches `/api/v1/search/<path>` for `asked`, anew when that changes. `onFirst` is called with the first rows of a new list,
 * `onMore` with those that come after them, `onAgain` with all of a list that was looked for `again()`, at its end.
 *
 * `running` and `parts` (how many have come), `searched` (0 to 1), `backTo` (ms), `next` (where it can go on), `cut` (why it
 * ended too early), `error`. A search that is left, for another one or another page, ends in the backend too.
 */
export function useSearch(path, asked, { onFirst, onMore, onAgain }) {
  const [state, setState] = useState({ ...NOTHING, running: true });
  const abort = useRef(null);
  const key = url(path, asked);

  async function run(params, onPart) {
    abort.current?.abort();
    const { signal } = (abort.current = new AbortController());
    const change = (changed) => signal.aborted || setState((old) => ({ ...old, ...changed }));
    let cut = null;
    try {
      await askParts(`search/${path}`, params, (part) => {
        if (part.error) cut = part.error.message;
        else if (!signal.aborted) onPart(part, change);
      }, { signal });
      change({ running: false, cut, error: null });
    } catch (error) {
      if (error.status >= 400 && !signal.aborted) onFirst([]);
      change({ running: false, error });
    }
    if (!signal.aborted) abort.current = null;
  }

  /** Goes on after what is known `before`. */
  function look(params, before, onRows) {
    setState((old) => ({ ...before, parts: 0, cut: null, error: old.error, running: true }));
    let parts = 0;
    run(params, ({ [path]: rows, searched, back_to_ms: backTo, next }, change) => {
      onRows(rows, parts);
      parts += 1;
      change({ parts, searched: before.searched + (1 - before.searched) * searched, backTo, next, error: null });
    });
  }

  useEffect(() => {
    look(asked, NOTHING, (rows, parts) => (parts ? onMore(rows) : onFirst(rows)));
    return () => abort.current?.abort();
  }, [key]);

  return {
    ...state,
    goOn: () => look({ ...asked, before: state.next }, state, onMore),
    stop: () => {
      abort.current?.abort();
      abort.current = null;
      setState((old) => ({ ...old, running: false, cut: "Stopped" }));
    },
    again: () => {
      if (abort.current) return;
      const found = [];
      run(asked, ({ [path]: rows, searched, back_to_ms: backTo, next }, change) => {
        found.push(...rows);
        if (searched === 1 || found.length >= asked.limit) {
          onAgain(found);
          change({ searched, backTo, next });
        }
      });
    },
  };
}
