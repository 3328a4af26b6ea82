// What the databases are asked: queries repeated for each row, and the slow ones.
import { html } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { amount, duration } from "../lib/format.js";
import { Empty, Failed, Loading } from "../parts/empty.js";
import { Service, Time, TraceLink, traceUrl } from "../parts/marks.js";
import { Tools, usePeriod } from "../parts/tools.js";

export function Queries({ params }) {
  const q = params.get("q") ?? "";
  const { from, to } = usePeriod(params);
  const { data, error, again } = useAsk("queries", { q, from, to, limit: 100 }, { everyMs: 10_000 });
  const slow = data?.slow ?? [];
  const repeated = data?.n_plus_one ?? [];
  return html`
    <h1 class="hidden-label">Queries</h1>
    <${Tools} params=${params} error=${error} placeholder="Filter: service:shop  db.system.name:postgresql" />
    ${error && error.status !== 400
      ? html`<${Failed} error=${error} again=${again} />`
      : !data
        ? !error && html`<${Loading} />`
        : !slow.length && !repeated.length
          ? html`<${Empty} what="queries" filtered=${Boolean(q || from || to)} hint="Spans of databases appear here: the slow ones, and those that are repeated for every row." />`
          : html`<div class="page">
              <section class="panel rows" aria-label="N+1"><header><h2>N+1</h2><span class="muted">the same query again and again under one parent</span></header>
                ${repeated.length ? html`<div class="scroll" tabindex="0" role="group" aria-label="N+1 queries"><${Repeated} rows=${repeated} /></div>` : html`<p class="said-small">None was seen.</p>`}</section>
              <section class="panel rows" aria-label="Slow"><header><h2>By time</h2><span class="muted">the slowest first</span></header>
                ${slow.length ? html`<div class="scroll" tabindex="0" role="group" aria-label="Slow queries"><${Slow} rows=${slow} /></div>` : html`<p class="said-small">None was seen.</p>`}</section>
            </div>`}
  `;
}

function Repeated({ rows }) {
  return html`<table><thead><tr><th>Query</th><th class="fit">Under</th><th class="fit right">At most</th><th class="fit right">Traces</th><th class="fit">Last</th><th class="fit">Service</th></tr></thead><tbody>
    ${rows.map(
      (row, i) => html`<tr key=${i}><td class="name-col"><a data-row class="clip mono" href=${traceUrl(row.trace_id, row.span_id)} title=${row.statement}>${row.statement}</a>${row.caller && html`<span class="clip muted mono">${row.caller}</span>`}</td>
        <td class="fit">${row.parent}</td><td class="fit right"><b class="times num">x ${row.worst_count}</b></td><td class="fit right num">${amount(row.times)}</td>
        <td class="fit"><${Time} ms=${row.last_ms} absolute=${false} /></td><td class="fit"><${Service} name=${row.service} /></td></tr>`,
    )}</tbody></table>`;
}

function Slow({ rows }) {
  return html`<table><thead><tr><th>Query</th><th class="fit right">p95</th><th class="fit right">Longest</th><th class="fit right">Count</th><th class="fit">System</th><th class="fit">Service</th><th class="fit">Trace</th></tr></thead><tbody>
    ${rows.map(
      (row, i) => html`<tr key=${i}><td class="name-col"><a data-row class="clip mono" href=${traceUrl(row.trace_id, row.span_id)} title=${row.statement}>${row.statement}</a></td>
        <td class="fit right num">${duration(row.p95_ms)}</td><td class="fit right num">${duration(row.max_ms)}</td><td class="fit right num">${amount(row.count)}</td>
        <td class="fit">${row.system}</td><td class="fit"><${Service} name=${row.service} /></td><td class="fit"><${TraceLink} trace=${row.trace_id} span=${row.span_id} /></td></tr>`,
    )}</tbody></table>`;
}
