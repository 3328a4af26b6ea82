// One metric: its series by label, for histograms percentiles and the heat map, with dots that open traces.
import { html, useMemo } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { measured, several } from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { Chart, colour } from "../parts/chart.js";
import { Failed, Loading } from "../parts/empty.js";
import { HeatMap } from "../parts/heat-map.js";
import { Time, TraceLink } from "../parts/marks.js";
import { kind } from "./metrics.js";

const EVERY_MS = 10_000;
const MOST_SERIES = 40;
const MOST_EXEMPLARS = 20;
const PERCENTILES = ["p50", "p95", "p99"];

export function Metric({ name, about, params, from, to }) {
  const by = params.get("group_by") ?? "";
  const { data, error, again } = useAsk(`metrics/${encodeURIComponent(name)}`, { from, to, group_by: by }, { everyMs: to ? 0 : EVERY_MS });
  const histogram = data?.type.includes("histogram");
  const rate = Boolean(about?.monotonic ?? false) && data?.type === "sum";
  const show = (value) => measured(value, data?.unit, { rate });
  const shown = useMemo(() => named(data?.series ?? []), [data]);
  const percentiles = useMemo(
    () => PERCENTILES.filter((p) => data?.percentiles?.[p]?.length).map((p, i) => ({ name: p, points: data.percentiles[p], tone: [0, 2, 5][i] })),
    [data],
  );
  const exemplars = useMemo(() => (data?.exemplars ?? []).filter(({ trace_id: id }) => id), [data]);
  if (!data) return error ? html`<${Failed} error=${error} again=${again} />` : html`<${Loading} />`;
  const rows = data.heat?.rows ?? [];
  const countShow = (value) => measured(value, "", { rate: true });
  const seriesShow = histogram ? countShow : show;
  return html`
    <div class="heading"><h2 class="metric-name mono">${name}</h2><span class="chip">${kind({ type: data.type, monotonic: about?.monotonic })}</span></div>
    ${about?.description && html`<p class="heading muted">${about.description}</p>`}
    <${GroupBy} about=${about} by=${by} />
    <div class="page">
      ${percentiles.length > 0 &&
      html`<section class="panel" aria-label="Percentiles"><header><h2>Percentiles</h2><${Keys} series=${percentiles} />${exemplars.length > 0 && html`<span class="muted">dots open their trace</span>`}</header>
        <div class="body"><${Chart} series=${percentiles} show=${show} exemplars=${exemplars} label=${`Percentiles of ${name}`} />
          <${Exemplars} list=${exemplars} show=${show} /></div></section>`}
      ${rows.length > 0 &&
      html`<section class="panel" aria-label="Heat map"><h2>Heat map</h2><div class="body"><${HeatMap} heat=${data.heat} show=${show} label=${`Heat map of ${name}`} /></div></section>`}
      ${shown.length > 0 &&
      html`<section class="panel" aria-label="Series"><header><h2>${histogram ? "Per second" : rate ? "Rate" : "Value"}</h2>${data.series.length > MOST_SERIES && html`<span class="muted">the ${MOST_SERIES} largest of ${data.series.length}</span>`}</header>
        <div class="body"><${Chart} series=${shown} show=${seriesShow} exemplars=${histogram ? [] : exemplars} label=${name} /></div>
        <div class="scroll" tabindex="0" role="group" aria-label="Latest values"><table><thead><tr><th>${by || "Series"}</th><th class="fit right">Last</th><th class="fit right">Most</th></tr></thead><tbody>
          ${shown.map((one, i) => html`<tr key=${one.name}><td><span class=${`service-name ${colour(i)}`}><span class="dot service"></span>${one.name}</span></td>
            <td class="fit right num">${seriesShow(last(one.points))}</td><td class="fit right num">${seriesShow(most(one.points))}</td></tr>`)}
        </tbody></table></div></section>`}
      ${!shown.length && !percentiles.length && html`<p class="muted">Nothing was received in this period.</p>`}
    </div>`;
}

function Keys({ series }) {
  return html`<span class="facts">${series.map((one, i) => html`<span key=${one.name} class=${`service-name ${colour(one.tone ?? i)}`}><span class="dot service"></span>${one.name}</span>`)}</span>`;
}

/** The dots as a list, the largest first: for the keyboard, for fingers, and where dots lie on each other. */
function Exemplars({ list, show }) {
  if (!list.length) return null;
  const largest = [...list].sort((a, b) => b.value - a.value).slice(0, MOST_EXEMPLARS);
  return html`<details class="exemplars"><summary>${several(list.length, "exemplar")}</summary>
    <table class="narrow"><tbody>${largest.map(
      (one, i) => html`<tr key=${i}><td><${Time} ms=${one.time_ms} relative=${false} /></td><td class="right num">${show(one.value)}</td><td><${TraceLink} trace=${one.trace_id} span=${one.span_id} /></td>
        <td class="muted">${Object.values(one.labels ?? {}).join(" · ")}</td></tr>`,
    )}</tbody></table></details>`;
}

function GroupBy({ about, by }) {
  const keys = Object.keys(about?.labels ?? {}).sort();
  if (!keys.length) return null;
  const chosen = by ? by.split(",") : [];
  const toggle = (key) => {
    const next = chosen.includes(key) ? chosen.filter((one) => one !== key) : [...chosen, key];
    setParams({ group_by: next.join(",") }, { replace: true });
  };
  return html`<div class="group-by" role="group" aria-label="Group by"><span class="muted">Group by</span>
    ${keys.map((key) => html`<button type="button" key=${key} class="mono" aria-pressed=${String(chosen.includes(key))} title=${about.labels[key].join(", ")} onClick=${() => toggle(key)}>${key}</button>`)}
  </div>`;
}

const values = (points) => points.map(([, value]) => value).filter((value) => value !== null);
const last = (points) => values(points).at(-1) ?? null;
const most = (points) => (values(points).length ? Math.max(...values(points)) : null);

function named(series) {
  return series
    .map(({ labels, points }) => ({ name: Object.values(labels ?? {}).map((value) => (value === "" || value === null ? "(none)" : value)).join(" · ") || "all", points }))
    .sort((a, b) => (last(b.points) ?? 0) - (last(a.points) ?? 0))
    .slice(0, MOST_SERIES);
}
