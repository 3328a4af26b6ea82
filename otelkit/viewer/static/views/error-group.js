// One kind of error: how often, where in the code, and the traces it broke.
import { html } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { clock, several } from "../lib/format.js";
import { url } from "../lib/router.js";
import { term } from "../lib/filter.js";
import { Failed, Loading } from "../parts/empty.js";
import { Service, Time, TraceLink } from "../parts/marks.js";
import { Stack } from "../parts/stack.js";

export function ErrorGroup({ id }) {
  const { data, error, again } = useAsk(`errors/${encodeURIComponent(id)}`, {}, { everyMs: 10_000 });
  if (!data) return error ? html`<${Failed} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`
    <div class="heading"><h1><span class="bad">${data.type}</span></h1><a href="/errors">All errors</a></div>
    <p class="heading">${data.message}</p>
    <div class="heading facts">
      <span><b class="num">${several(data.count, "time")}</b></span><${Service} name=${data.service} />
      <span>last <b><${Time} ms=${data.last_ms} /></b></span><span>first <b><${Time} ms=${data.first_ms} /></b></span>
      ${data.release && html`<span>release <b>${data.release}</b></span>`}
      <span>newest trace <${TraceLink} trace=${data.trace_id} span=${data.span_id} /></span>
      <a href=${url("/logs", { q: term("exception.type", data.type) })}>Logs</a>
    </div>
    <div class="page">
      ${data.per_minute?.length > 0 && html`<section class="panel" aria-label="Per minute"><h2>Per minute</h2><div class="body"><${PerMinute} points=${data.per_minute} /></div></section>`}
      <section class="panel" aria-label="Stack"><h2>Stack</h2><div class="body">${data.stack ? html`<${Stack} text=${data.stack} />` : html`<p class="muted">No stack trace was sent.</p>`}</div></section>
      <section class="panel rows" aria-label="Recent"><h2>Recent</h2><table><tbody>
        ${(data.recent ?? []).map(
          (one, i) => html`<tr key=${i}><td class="fit"><${Time} ms=${one.time_ms} /></td>
            <td class="name-col">${one.trace_id ? html`<a data-row class="clip" href=${url(`/traces/${one.trace_id}`, { span: one.span_id })}>${one.message}</a>` : html`<span class="clip">${one.message}</span>`}</td>
            <td class="fit"><${TraceLink} trace=${one.trace_id} span=${one.span_id} /></td></tr>`,
        )}
      </tbody></table></section>
    </div>`;
}

const MINUTE_MS = 60_000;
const MOST_BARS = 120;

function PerMinute({ points }) {
  const last = points[points.length - 1][0];
  const first = Math.max(points[0][0], last - (MOST_BARS - 1) * MINUTE_MS);
  const bars = Math.max(30, Math.round((last - first) / MINUTE_MS) + 1);
  const start = last - (bars - 1) * MINUTE_MS;
  const most = Math.max(...points.map(([, count]) => count));
  return html`<figure>
    <svg class="minutes" viewBox=${`0 0 ${bars * 10} 60`} preserveAspectRatio="none" role="img" aria-label=${`up to ${most} a minute, ${clock(start, { millis: false })} to ${clock(last, { millis: false })}`}>
      ${points
        .filter(([time]) => time >= start)
        .map(([time, count]) => {
          const height = Math.max(2, (count / most) * 58);
          return html`<rect key=${time} x=${((time - start) / MINUTE_MS) * 10 + 1} y=${60 - height} width="8" height=${height}><title>${`${clock(time, { millis: false })}: ${count}`}</title></rect>`;
        })}
    </svg>
    <figcaption class="axis-line muted num"><span>${clock(start, { millis: false })}</span><span>most: ${most}</span><span>${clock(last, { millis: false })}</span></figcaption>
  </figure>`;
}
