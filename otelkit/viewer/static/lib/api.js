// Questions to the backend: JSON in, errors as text for people, answers that arrive too late dropped.
import { useCallback, useEffect, useRef, useState } from "./html.js";
import { url } from "./router.js";

let skew = 0;

/** The backend's present time in milliseconds: through a tunnel it may have another clock than this browser. */
export const now = () => Date.now() + skew;

export class ApiError extends Error {
  constructor(message, status, at) {
    super(message);
    this.status = status;
    this.at = at;
  }
}

/** `body` makes it a POST. */
export async function ask(path, params = {}, { signal, body } = {}) {
  const response = await answered(path, params, { signal, ...(body && { method: "POST", body: JSON.stringify(body) }) });
  const answer = await parsed(response);
  if (path === "info") skew = answer.now_ms - Date.now();
  return answer;
}

/** Asks for what comes in parts, one line of JSON each: `onPart` is called with each as it comes. */
export async function askParts(path, params, onPart, { signal }) {
  const response = await answered(path, params, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(unreachable);
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) onPart(JSON.parse(line));
  }
}

async function answered(path, params, options) {
  const response = await fetch(url(`/api/v1/${path}`, params), { headers: { Accept: "application/json" }, ...options }).catch(unreachable);
  if (!response.ok) await parsed(response);
  return response;
}

/** The answer as JSON; throws what the backend says is wrong. */
async function parsed(response) {
  const answer = await response.json().catch(() => null); // said below with the status
  if (response.ok && answer !== null) return answer;
  const { message, at } = answer?.error ?? {};
  throw new ApiError(message ?? `The viewer answered ${response.status}.`, response.status, at);
}

function unreachable(error) {
  if (error.name === "AbortError") throw error;
  throw new ApiError("The viewer does not answer. Is otelkit ui still running?", 0);
}

/**
 * Asks and asks again when path or parameters change, every `everyMs` if that is given, or on `again()`.
 * What was there stays shown while the next answer is on its way.
 */
export function useAsk(path, params = {}, { everyMs = 0 } = {}) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const [round, setRound] = useState(0);
  const key = path === null ? null : url(path, params);
  const shown = useRef(null);

  useEffect(() => {
    if (key === null) return undefined;
    const abort = new AbortController();
    const fresh = shown.current !== path;
    setState((old) => ({ data: fresh ? null : old.data, error: fresh ? null : old.error, loading: true }));
    ask(path, params, { signal: abort.signal }).then(
      (data) => {
        shown.current = path;
        setState({ data, error: null, loading: false });
      },
      (error) => {
        if (error.name === "AbortError") return;
        setState((old) => ({ data: error.status >= 400 ? null : old.data, error, loading: false }));
      },
    );
    return () => abort.abort();
  }, [key, round]);

  useEffect(() => {
    if (!everyMs || key === null) return undefined;
    const timer = setInterval(() => document.hidden || setRound((n) => n + 1), everyMs);
    return () => clearInterval(timer);
  }, [key, everyMs]);

  const again = useCallback(() => setRound((n) => n + 1), []);
  return { ...state, again };
}
