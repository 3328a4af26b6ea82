// The newest logs, streaming in; of one trace or span when the URL names it.
import { html, useEffect, useState } from "../lib/html.js";
import { ask, useAsk } from "../lib/api.js";
import { shortId } from "../lib/format.js";
import { useBatches, useLive } from "../lib/live.js";
import { setParams } from "../lib/router.js";
import { Empty, Failed, Loading } from "../parts/empty.js";
import { LogLine } from "../parts/log-line.js";
import { TraceLink } from "../parts/marks.js";
import { Pause, Tools, usePeriod } from "../parts/tools.js";

const PAGE = 200;
const MOST_LINES = 2000;
const SEVERITIES = ["debug", "info", "warn", "error"];

function merged(old, more) {
  const byId = new Map(old.map((log) => [log.id, log]));
  for (const log of more) byId.set(log.id, log);
  return [...byId.values()].sort((a, b) => b.time_ms - a.time_ms).slice(0, MOST_LINES);
}

export function Logs({ params }) {
  const q = params.get("q") ?? "";
  const severity = params.get("severity") ?? "";
  const trace = params.get("trace") ?? "";
  const span = params.get("span") ?? "";
  const { from, to } = usePeriod(params, { moving: false });
  const asked = { q, severity, trace, span, from, to, limit: PAGE };
  const { data, error, loading, again } = useAsk("logs", asked);
  const [logs, setLogs] = useState([]);
  const [next, setNext] = useState(null);
  const [paused, setPaused] = useState(false);
  const [waiting, setWaiting] = useState([]);
  const [fresh, setFresh] = useState(() => new Set());

  useEffect(() => {
    setLogs(data?.logs ?? []);
    setNext(data?.next ?? null);
    setWaiting([]);
    setFresh(new Set());
  }, [data]);

  const add = useBatches((batch) => {
    if (paused) setWaiting((old) => merged(old, batch));
    else {
      setFresh(new Set(batch.map((log) => log.id)));
      setLogs((old) => merged(old, batch));
    }
  });
  // The stream takes the filter language only: severity and ids are terms of it as well.
  const live = [q, severity && `severity>=${severity}`, trace && `trace:${trace}`, span && `span:${span}`].filter(Boolean).join(" ");
  const state = useLive(live, { log: add, stats: ({ missed }) => missed && !paused && again() }, { open: !to && !error, onReturn: () => paused || again() });
  const pause = () => {
    if (paused) setLogs((old) => merged(old, waiting));
    setWaiting([]);
    setPaused(!paused);
  };
  const older = async () => {
    const more = await ask("logs", { ...asked, before: next });
    setLogs((old) => [...old, ...more.logs.filter((log) => !old.some((one) => one.id === log.id))]);
    setNext(more.next);
  };

  return html`
    <h1 class="hidden-label">Logs</h1>
    <${Tools} params=${params} error=${error} placeholder='Filter: "not found"  severity>=warn  scope:shop'>
      <select aria-label="Severity" value=${severity} onChange=${(event) => setParams({ severity: event.target.value })}>
        <option value="">All severities</option>
        ${SEVERITIES.map((name) => html`<option key=${name} value=${name}>${name} and above</option>`)}
      </select>
      <${Pause} paused=${paused} waiting=${waiting.length} state=${state} onToggle=${pause} />
    <//>
    ${(trace || span) &&
    html`<p class="heading facts"><span>of trace <${TraceLink} trace=${trace} span=${span}>${trace}<//></span>
      ${span && html`<span>span <${TraceLink} trace=${trace} span=${span}>${shortId(span)}<//></span>`}
      <button type="button" class="plain" onClick=${() => setParams({ trace: "", span: "" })}>All logs</button></p>`}
    ${error && error.status !== 400
      ? html`<${Failed} error=${error} again=${again} />`
      : logs.length
        ? html`<div class="list"><ul aria-label="Logs">${logs.map((log) => html`<${LogLine} key=${log.id} log=${log} fresh=${fresh.has(log.id)} />`)}</ul>
          ${next && html`<div class="more"><button type="button" onClick=${older}>Older logs</button></div>`}</div>`
        : loading
          ? html`<${Loading} />`
          : !error && html`<${Empty} what="logs" filtered=${Boolean(live || from || to)} hint="Log records appear here beside the traces that they belong to." />`}
  `;
}
