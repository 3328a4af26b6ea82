// Who calls whom, how often and how well; below it the same as tables, routes included.
import { html, useMemo } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { term } from "../lib/filter.js";
import { amount, duration, hue, percent, rate as perTime } from "../lib/format.js";
import { url } from "../lib/router.js";
import { Empty, Failed, Loading } from "../parts/empty.js";
import { Service } from "../parts/marks.js";
import { Period, usePeriod } from "../parts/tools.js";
import { layout, NODE } from "./map-layout.js";

const DEFAULT_RANGE = "1h";
// The places are for text of this size; on screens with larger text the drawing grows with it.
const TEXT_PX = 14;

export function ServiceMap({ params }) {
  const { from, to } = usePeriod(params, { fallback: DEFAULT_RANGE });
  const map = useAsk("map", { from, to }, { everyMs: 10_000 });
  const routes = useAsk("red", { by: "route", from, to }, { everyMs: 10_000 });
  const drawn = useMemo(() => map.data && layout(map.data), [map.data]);
  if (!map.data) return map.error ? html`<${Failed} error=${map.error} again=${map.again} />` : html`<${Loading} />`;
  if (!map.data.nodes.length) return html`<${Empty} what="services" filtered=${params.has("range")} hint="The map is drawn from spans: a service, what it calls and what it stores in." />`;
  return html`
    <div class="heading"><h1>Service map</h1><${Period} params=${params} fallback=${DEFAULT_RANGE} /></div>
    <div class="page">
      <section class="panel" aria-label="Map"><div class="map" tabindex="0" role="group" aria-label="Map of services"><${Drawing} drawn=${drawn} /></div></section>
      ${routes.data?.rows.length > 0 && html`<section class="panel rows" aria-label="Routes"><h2>Routes</h2><div class="scroll" tabindex="0" role="group" aria-label="Routes"><${Routes} rows=${routes.data.rows} /></div></section>`}
    </div>`;
}

function Drawing({ drawn }) {
  const { nodes, edges, width, height } = drawn;
  return html`<svg width=${`${width / TEXT_PX}rem`} height=${`${height / TEXT_PX}rem`} viewBox=${`0 0 ${width} ${height}`} role="group" aria-label="Services and their calls">
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path class="arrow" d="M0 0L8 4L0 8z" /></marker></defs>
    ${edges.map((edge) => {
      const ratio = edge.error_ratio;
      return html`<g key=${`${edge.from} ${edge.to}`} data-edge=${`${edge.from} ${edge.to}`} class=${`edge ${ratio > 0 ? "bad-edge" : ""}`}>
        <path d=${edge.path} marker-end="url(#arrow)" /><text x=${edge.x} y=${edge.y - 4}>${perTime(edge.rate)}${ratio > 0 ? ` · ${percent(ratio)} errors` : ""}</text>
        <title>${`${edge.from} → ${edge.to}: ${edge.requests} calls, ${edge.errors} errors, p95 ${duration(edge.p95_ms)}`}</title>
      </g>`;
    })}
    ${nodes.map((node) => {
      const bad = node.errors > 0;
      const body = html`<rect width=${NODE.width} height=${NODE.height} rx=${node.type === "service" ? 8 : 20} /><rect class="stripe" width="4" y="10" x="0" height=${NODE.height - 20} />
        <text class="node-name" x="14" y="21">${clipped(node.name, 22)}</text>
        <text class="node-facts" x="14" y="38">${node.type === "service" ? "" : `${node.type} · `}${perTime(node.rate)}${bad ? ` · ${percent(node.error_ratio)} errors` : ""}</text>
        <text class="node-facts" x="14" y="53">${node.p95_ms ? `p95 ${duration(node.p95_ms)}` : ""}</text><title>${node.name}${node.type === "service" ? ": its traces" : ""}</title>`;
      const place = `translate(${node.x} ${node.y})`;
      return node.type === "service"
        ? html`<a key=${node.id} href=${url("/traces", { q: term("service", node.name) })}><g class=${`node s${hue(node.name)} ${bad ? "bad-node" : ""}`} transform=${place} data-node=${node.name}>${body}</g></a>`
        : html`<g key=${node.id} class=${`node other ${bad ? "bad-node" : ""}`} transform=${place} data-node=${node.name}>${body}</g>`;
    })}
  </svg>`;
}

const clipped = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

function Routes({ rows }) {
  return html`<table>
    <thead><tr><th>Route</th><th class="fit">Service</th><th class="fit right">Requests</th><th class="fit right">Rate</th><th class="fit right">Errors</th><th class="fit right">p50</th><th class="fit right">p95</th><th class="fit right">p99</th></tr></thead>
    <tbody>${rows.map(
      (row) => html`<tr key=${`${row.service} ${row.route}`}>
        <td><a data-row href=${url("/traces", { q: `${term("service", row.service)} ${term("route", row.route)}` })}>${row.route || "(none)"}</a></td>
        <td class="fit"><${Service} name=${row.service} /></td><td class="fit right num">${amount(row.requests)}</td><td class="fit right num">${perTime(row.rate)}</td>
        <td class="fit right num">${row.errors ? html`<span class="bad">${percent(row.error_ratio)}</span>` : html`<span class="muted">0 %</span>`}</td>
        <td class="fit right num">${duration(row.p50_ms)}</td><td class="fit right num">${duration(row.p95_ms)}</td><td class="fit right num">${duration(row.p99_ms)}</td>
      </tr>`,
    )}</tbody></table>`;
}
