// Pick a metric, see it over time.
import { html, useState } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { url } from "../lib/router.js";
import { Empty, Failed, Loading } from "../parts/empty.js";
import { Period, usePeriod } from "../parts/tools.js";
import { Metric } from "./metric.js";

export const DEFAULT_RANGE = "1h";

export function Metrics({ id, params }) {
  const { from, to } = usePeriod(params, { fallback: DEFAULT_RANGE });
  const { data, error, again } = useAsk("metrics", {}, { everyMs: 15_000 });
  const [needle, setNeedle] = useState("");
  if (!data) return error ? html`<${Failed} error=${error} again=${again} />` : html`<${Loading} />`;
  if (!data.metrics.length) return html`<${Empty} what="metrics" hint="Metrics appear here with their first export; a Python SDK exports once a minute unless OTEL_METRIC_EXPORT_INTERVAL says otherwise." />`;
  const found = data.metrics.filter(({ name, description }) => `${name} ${description ?? ""}`.toLowerCase().includes(needle));
  const chosen = data.metrics.find(({ name }) => name === id);
  const keep = { range: params.get("range"), from: params.get("from"), to: params.get("to") };
  return html`
    <h1 class="hidden-label">Metrics</h1>
    <div class=${`metrics ${id ? "has-choice" : ""}`}>
      <nav class="metric-names" aria-label="Metrics">
        <div class="find"><input data-search type="search" aria-label="Find a metric" placeholder="Find a metric" value=${needle} onInput=${(event) => setNeedle(event.target.value.toLowerCase().trim())} /></div>
        <ul>${found.map(
          (metric) => html`<li key=${metric.name}><a data-row href=${url(`/metrics/${encodeURIComponent(metric.name)}`, keep)} aria-current=${metric.name === id ? "true" : null}>
            <span class="mono">${metric.name}</span><span class="muted">${kind(metric)}${metric.unit ? ` · ${metric.unit}` : ""}</span></a></li>`,
        )}</ul>
        ${!found.length && html`<p class="said-small">No metric has this in its name.</p>`}
      </nav>
      <div class="metric-shown">
        ${!id
          ? html`<p class="empty muted">Choose a metric: ${data.metrics.length} were received.</p>`
          : html`<div class="tools tight"><a class="as-button narrow-only" href=${url("/metrics", keep)}>All metrics</a><${Period} params=${params} fallback=${DEFAULT_RANGE} /></div>
            <${Metric} key=${id} name=${id} about=${chosen} params=${params} from=${from} to=${to} />`}
      </div>
    </div>`;
}

export function kind({ type, monotonic }) {
  if (type === "sum") return monotonic ? "counter" : "up-down counter";
  return type.replace("_", " ");
}
