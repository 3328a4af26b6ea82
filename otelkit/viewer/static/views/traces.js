// The newest traces, streaming in.
import { html } from "../lib/html.js";
import { useNewest } from "../lib/newest.js";
import { Empty, Failed, Loading } from "../parts/empty.js";
import { Duration, Meter, NPlusOne, Others, Service, Status, Time, traceUrl } from "../parts/marks.js";
import { Progress } from "../parts/progress.js";
import { Pause, Tools, usePeriod } from "../parts/tools.js";

const PAGE = 100;
const MOST_ROWS = 1000;

export function Traces({ params }) {
  const q = params.get("q") ?? "";
  const { from, to } = usePeriod(params, { moving: false });
  const { items: traces, fresh, paused, waiting, state, search, pause } = useNewest("traces", {
    asked: { q, from, to, limit: PAGE }, live: q, kind: "trace", id: "trace_id", time: "start_ms", most: MOST_ROWS,
  });

  const { error } = search;
  const most = traces.reduce((longest, trace) => Math.max(longest, trace.duration_ms), 0);
  const filtered = Boolean(q || from || to);
  return html`
    <h1 class="hidden-label">Traces</h1>
    <${Tools} params=${params} error=${error} placeholder="Filter: status:error  duration>100ms  route:/orders/*">
      <${Pause} paused=${paused} waiting=${waiting} state=${state} onToggle=${pause} />
    <//>
    <${Progress} search=${search} what="traces" found=${traces.length} />
    ${error && error.status !== 400
      ? html`<${Failed} error=${error} again=${search.again} />`
      : traces.length
        ? html`<div class="list rows traces" tabindex="-1"><table>
            <thead><tr><th class="fit">Start</th><th>Trace</th><th class="fit narrow-off">Status</th><th class="fit right">Duration</th><th class="fit right narrow-off">Spans</th><th class="fit right narrow-off">Errors</th></tr></thead>
            <tbody>${traces.map((trace) => html`<${Row} key=${trace.trace_id} trace=${trace} most=${most} fresh=${fresh.has(trace.trace_id)} />`)}</tbody>
          </table>
          ${search.next && !search.running && !search.cut && html`<div class="more"><button type="button" onClick=${search.goOn}>Older traces</button></div>`}</div>`
        : search.running
          ? !search.parts && html`<${Loading} />`
          : !error && !search.cut && html`<${Empty} what="traces" filtered=${filtered} />`}
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
