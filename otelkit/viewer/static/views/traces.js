// The newest traces, streaming in.
import { html, useEffect, useState } from "../lib/html.js";
import { ask, useAsk } from "../lib/api.js";
import { useBatches, useLive } from "../lib/live.js";
import { Empty, Failed, Loading } from "../parts/empty.js";
import { Duration, Meter, NPlusOne, Others, Service, Status, Time, traceUrl } from "../parts/marks.js";
import { Pause, Tools, usePeriod } from "../parts/tools.js";

const PAGE = 100;
const MOST_ROWS = 1000;

/** Newer traces on top, each once, as it was told last. */
export function merged(old, more) {
  const byId = new Map(old.map((trace) => [trace.trace_id, trace]));
  for (const trace of more) byId.set(trace.trace_id, trace);
  return [...byId.values()].sort((a, b) => b.start_ms - a.start_ms).slice(0, MOST_ROWS);
}

export function Traces({ params }) {
  const q = params.get("q") ?? "";
  const { from, to } = usePeriod(params, { moving: false });
  const { data, error, loading, again } = useAsk("traces", { q, from, to, limit: PAGE });
  const [traces, setTraces] = useState([]);
  const [next, setNext] = useState(null);
  const [paused, setPaused] = useState(false);
  const [waiting, setWaiting] = useState([]);
  const [fresh, setFresh] = useState(() => new Set());

  useEffect(() => {
    setTraces(data?.traces ?? []);
    setNext(data?.next ?? null);
    setWaiting([]);
    setFresh(new Set());
  }, [data]);

  const add = useBatches((batch) => {
    if (paused) setWaiting((old) => merged(old, batch));
    else {
      setFresh(new Set(batch.map((trace) => trace.trace_id)));
      setTraces((old) => merged(old, batch));
    }
  });
  const state = useLive(q, { trace: add, stats: ({ missed }) => missed && !paused && again() }, { open: !to && !error, onReturn: () => paused || again() });
  const pause = () => {
    if (paused) setTraces((old) => merged(old, waiting));
    setWaiting([]);
    setPaused(!paused);
  };
  const older = async () => {
    const more = await ask("traces", { q, from, to, limit: PAGE, before: next });
    setTraces((old) => [...old, ...more.traces.filter((trace) => !old.some((one) => one.trace_id === trace.trace_id))]);
    setNext(more.next);
  };

  const most = traces.reduce((longest, trace) => Math.max(longest, trace.duration_ms), 0);
  const filtered = Boolean(q || from || to);
  return html`
    <h1 class="hidden-label">Traces</h1>
    <${Tools} params=${params} error=${error} placeholder="Filter: status:error  duration>100ms  route:/orders/*">
      <${Pause} paused=${paused} waiting=${waiting.length} state=${state} onToggle=${pause} />
    <//>
    ${error && error.status !== 400
      ? html`<${Failed} error=${error} again=${again} />`
      : traces.length
        ? html`<div class="list rows traces" tabindex="-1"><table>
            <thead><tr><th class="fit">Start</th><th>Trace</th><th class="fit narrow-off">Status</th><th class="fit right">Duration</th><th class="fit right narrow-off">Spans</th><th class="fit right narrow-off">Errors</th></tr></thead>
            <tbody>${traces.map((trace) => html`<${Row} key=${trace.trace_id} trace=${trace} most=${most} fresh=${fresh.has(trace.trace_id)} />`)}</tbody>
          </table>
          ${next && html`<div class="more"><button type="button" onClick=${older}>Older traces</button></div>`}</div>`
        : loading
          ? html`<${Loading} />`
          : !error && html`<${Empty} what="traces" filtered=${filtered} />`}
  `;
}

function Row({ trace, most, fresh }) {
  const bad = trace.errors > 0 || trace.status === "error";
  return html`<tr class=${fresh ? "arrived" : ""} data-trace=${trace.trace_id}>
    <td class="fit"><${Time} ms=${trace.start_ms} /></td>
    <td class="name-col"><span class="cell-name">
      <a data-row class="clip" href=${traceUrl(trace.trace_id)}>${trace.name}</a>
      <span class="muted narrow-off"><${Service} name=${trace.service} /></span><${Others} names=${trace.services} but=${trace.service} />
      ${trace.n_plus_one && html`<${NPlusOne} />`}
    </span></td>
    <td class="fit narrow-off"><${Status} status=${trace.status} http=${trace.http_status} /></td>
    <td class="fit right"><${Duration} ms=${trace.duration_ms} /><${Meter} value=${trace.duration_ms} most=${most} bad=${bad} /></td>
    <td class="fit right num narrow-off">${trace.spans}</td>
    <td class="fit right num narrow-off">${trace.errors ? html`<span class="bad">${trace.errors}</span>` : html`<span class="muted">0</span>`}</td>
  </tr>`;
}
