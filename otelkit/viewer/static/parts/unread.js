// Errors that nobody has looked at yet: groups with an occurrence since the errors page was last open.
import { useEffect } from "../lib/html.js";
import { now, useAsk } from "../lib/api.js";
import { useStored } from "../lib/stored.js";

const EVERY_MS = 5000;

/** The time until which errors are read; before the first visit none is. */
export const useSeen = () => useStored("errors-seen", 0);

export function useUnread() {
  const [seen] = useSeen();
  const { data } = useAsk("errors", { from: seen ? Math.ceil(seen) : null, limit: 100 }, { everyMs: EVERY_MS });
  return data ? data.groups.filter((group) => group.last_ms > seen).length : 0;
}

/** While the errors page is open all is read, as soon as it is left. */
export function useReading() {
  const [seen, setSeen] = useSeen();
  useEffect(() => () => setSeen(now()), []);
  return seen;
}
