// The newest logs, streaming in; of one trace or span when the URL names it.
import { html } from "../lib/html.js";
import { shortId } from "../lib/format.js";
import { useNewest } from "../lib/newest.js";
import { setParams } from "../lib/router.js";
import { Empty, Failed, Loading } from "../parts/empty.js";
import { LogLine } from "../parts/log-line.js";
import { TraceLink } from "../parts/marks.js";
import { Progress } from "../parts/progress.js";
import { Pause, Tools, usePeriod } from "../parts/tools.js";

const PAGE = 200;
const MOST_LINES = 2000;
const SEVERITIES = ["debug", "info", "warn", "error"];

export function Logs({ params }) {
  const q = params.get("q") ?? "";
  const severity = params.get("severity") ?? "";
  const trace = params.get("trace") ?? "";
  const span = params.get("span") ?? "";
  const { from, to } = usePeriod(params, { moving: false });
  // The stream takes the filter language only: severity and ids are terms of it as well.
  const live = [q, severity && `severity>=${severity}`, trace && `trace:${trace}`, span && `span:${span}`].filter(Boolean).join(" ");
  const { items: logs, fresh, paused, waiting, state, search, pause } = useNewest("logs", {
    asked: { q, severity, trace, span, from, to, limit: PAGE }, live, kind: "log", id: "id", time: "time_ms", most: MOST_LINES,
  });
  const { error } = search;

  return html`
    <h1 class="hidden-label">Logs</h1>
    <${Tools} params=${params} error=${error} placeholder='Filter: "not found"  severity>=warn  scope:shop'>
      <select aria-label="Severity" value=${severity} onChange=${(event) => setParams({ severity: event.target.value })}>
        <option value="">All severities</option>
        ${SEVERITIES.map((name) => html`<option key=${name} value=${name}>${name} and above</option>`)}
      </select>
      <${Pause} paused=${paused} waiting=${waiting} state=${state} onToggle=${pause} />
    <//>
    ${(trace || span) &&
    html`<p class="heading facts"><span>of trace <${TraceLink} trace=${trace} span=${span}>${trace}<//></span>
      ${span && html`<span>span <${TraceLink} trace=${trace} span=${span}>${shortId(span)}<//></span>`}
      <button type="button" class="plain" onClick=${() => setParams({ trace: "", span: "" })}>All logs</button></p>`}
    <${Progress} search=${search} what="logs" found=${logs.length} />
    ${error && error.status !== 400
      ? html`<${Failed} error=${error} again=${search.again} />`
      : logs.length
        ? html`<div class="list"><ul aria-label="Logs">${logs.map((log) => html`<${LogLine} key=${log.id} log=${log} fresh=${fresh.has(log.id)} />`)}</ul>
          ${search.next && !search.running && !search.cut && html`<div class="more"><button type="button" onClick=${search.goOn}>Older logs</button></div>`}</div>`
        : search.running
          ? !search.parts && html`<${Loading} />`
          : !error && !search.cut && html`<${Empty} what="logs" filtered=${Boolean(live || from || to)} hint="Log records appear here beside the traces that they belong to." />`}
  `;
}
