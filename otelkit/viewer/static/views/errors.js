// Exceptions in groups: one row for a kind of exception at a place, however often it happened.
import { html } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { amount, several } from "../lib/format.js";
import { useLive } from "../lib/live.js";
import { url } from "../lib/router.js";
import { Empty, Failed, Loading } from "../parts/empty.js";
import { Service, Time, TraceLink } from "../parts/marks.js";
import { Tools, usePeriod } from "../parts/tools.js";
import { useReading } from "../parts/unread.js";

const EVERY_MS = 5000;

export function Errors({ params }) {
  const seen = useReading();
  const q = params.get("q") ?? "";
  const { from, to } = usePeriod(params);
  const { data, error, again } = useAsk("errors", { q, from, to, limit: 200 }, { everyMs: EVERY_MS });
  useLive(q, { error: again }, { open: !to && !error });
  const groups = data?.groups ?? [];
  return html`
    <h1 class="hidden-label">Errors</h1>
    <${Tools} params=${params} error=${error} placeholder="Filter: service:shop  ValueError" />
    ${error && error.status !== 400
      ? html`<${Failed} error=${error} again=${again} />`
      : groups.length
        ? html`<div class="list rows" tabindex="-1"><table>
            <thead><tr><th>Error</th><th class="fit narrow-off">Service</th><th class="fit right">Count</th><th class="fit">Last seen</th><th class="fit narrow-off">First seen</th><th class="fit narrow-off">Trace</th></tr></thead>
            <tbody>${groups.map(
              (group) => html`<tr key=${group.fingerprint} data-error=${group.fingerprint}>
                <td class="name-col"><span class="cell-name"><a data-row class="clip" href=${`/errors/${encodeURIComponent(group.fingerprint)}`}><span class="bad">${group.type}</span></a>
                  ${group.last_ms > seen && html`<span class="new">new</span>`}</span>
                  <span class="clip muted">${group.message}</span></td>
                <td class="fit narrow-off"><${Service} name=${group.service} /></td>
                <td class="fit right num">${amount(group.count)}</td>
                <td class="fit"><${Time} ms=${group.last_ms} absolute=${false} /></td>
                <td class="fit narrow-off"><${Time} ms=${group.first_ms} absolute=${false} /></td>
                <td class="fit narrow-off"><${TraceLink} trace=${group.trace_id} span=${group.span_id} /></td>
              </tr>`,
            )}</tbody></table></div>`
        : !data && !error
          ? html`<${Loading} />`
          : !error &&
            html`<${NoErrors} filtered=${Boolean(q || from || to)} />`}
  `;
}

function NoErrors({ filtered }) {
  const { data } = useAsk("info");
  if (filtered || !data || data.rows.spans + data.rows.logs === 0) return html`<${Empty} what="errors" filtered=${filtered} />`;
  return html`<div class="empty"><h2>No errors</h2><p class="muted">None among ${several(data.rows.spans, "span")} and ${several(data.rows.logs, "log")}. An exception shows up here with its stack and the newest trace.</p>
    <a href=${url("/traces")}>To the traces</a></div>`;
}
