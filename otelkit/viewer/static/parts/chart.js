// A line chart over time: uPlot draws, this gives it the page's colours, size and units.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { amount, clock } from "../lib/format.js";
import { colourOf, rem, token } from "../lib/tokens.js";
import { traceUrl } from "./marks.js";

const HEIGHT_REM = 19;

/** Draws again when the theme changes. */
export function useTheme() {
  const [round, setRound] = useState(0);
  useEffect(() => {
    const again = () => setRound((n) => n + 1);
    const observer = new MutationObserver(again);
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", again);
    return () => {
      observer.disconnect();
      system.removeEventListener("change", again);
    };
  }, []);
  return round;
}

export function useWidth(ref) {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  return width;
}

/** One array of times and one array of values a series, from series of points whose times may differ. */
export function aligned(series) {
  const times = [...new Set(series.flatMap(({ points }) => points.map(([time]) => time)))].sort((a, b) => a - b);
  const index = new Map(times.map((time, i) => [time, i]));
  const rows = series.map(({ points }) => {
    const values = new Array(times.length).fill(null);
    for (const [time, value] of points) values[index.get(time)] = value;
    return values;
  });
  return [times.map((time) => time / 1000), ...rows];
}

/** The named colour of the n-th series. */
export const colour = (n) => `s${n % 8}`;

/** `series`: [{ name, points: [[ms, value]] }]; `show` formats a value; `exemplars` are dots that open their trace: small ones,
 * for a mouse, so whoever draws them lists them as well. */
export function Chart({ series, show = amount, exemplars = [], label }) {
  const holder = useRef(null);
  const [dots, setDots] = useState([]);
  const width = useWidth(holder);
  const theme = useTheme();

  useEffect(() => {
    if (!width || !series.length) return undefined;
    const muted = colourOf("--muted");
    const line = colourOf("--line");
    const font = `${Math.round(rem() * 0.82)}px ${token("--sans")}`;
    const axis = { stroke: muted, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    const place = (plot) => {
      const low = plot.scales.x.min * 1000;
      const high = plot.scales.x.max * 1000;
      setDots(
        exemplars
          .filter(({ time_ms: time }) => time >= low && time <= high)
          .slice(-150)
          .map((one) => ({
            ...one,
            left: plot.valToPos(one.time_ms / 1000, "x") + plot.bbox.left / devicePixelRatio,
            top: Math.max(0, Math.min(plot.bbox.height / devicePixelRatio, plot.valToPos(one.value, "y"))) + plot.bbox.top / devicePixelRatio,
          })),
      );
    };
    const plot = new uPlot(
      {
        width,
        height: Math.round(HEIGHT_REM * rem()),
        legend: { show: false },
        cursor: { points: { size: 6 }, y: false },
        scales: { y: { range: (_, low, high) => scaled(low, high, exemplars) } },
        axes: [
          { ...axis, values: (_, times) => times.map((time) => clock(time * 1000, { millis: false })), space: rem() * 6.5, size: rem() * 2.4 },
          { ...axis, values: (_, values) => values.map(show), size: rem() * 5 },
        ],
        series: [
          {},
          ...series.map((one, i) => ({
            label: one.name,
            stroke: colourOf(`--${colour(one.tone ?? i)}`),
            width: 1.75,
            points: { show: one.points.length < 2 ? true : undefined, size: 4 },
            spanGaps: false,
          })),
        ],
        hooks: {
          draw: [place],
          setCursor: [(self) => holder.current && readOut(holder.current, self, series, show)],
        },
      },
      aligned(series),
      holder.current.querySelector(".plot"),
    );
    return () => plot.destroy();
  }, [series, exemplars, width, theme]);

  return html`<figure class="chart" ref=${holder}>
    <div class="plot" role="img" aria-label=${label}></div>
    ${dots.map(
      (dot, i) => html`<a key=${i} class="exemplar" aria-hidden="true" tabindex="-1" href=${traceUrl(dot.trace_id, dot.span_id)} style=${{ left: `${dot.left}px`, top: `${dot.top}px` }} title=${`${show(dot.value)}, open its trace`}></a>`,
    )}
    <figcaption class="read-out num" aria-hidden="true"></figcaption>
  </figure>`;
}

function scaled(low, high, exemplars) {
  const most = Math.max(high ?? 0, ...exemplars.map(({ value }) => value));
  const least = Math.min(0, low ?? 0);
  return [least, most > least ? most * 1.06 : least + 1];
}

function readOut(holder, plot, series, show) {
  const at = plot.cursor.idx;
  const out = holder.querySelector(".read-out");
  if (at === null || at === undefined || plot.cursor.left < 0) {
    out.textContent = "";
    return;
  }
  const values = series
    .map(({ name }, i) => [name, plot.data[i + 1][at]])
    .filter(([, value]) => value !== null && value !== undefined)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 6)
    .map(([name, value]) => `${name} ${show(value)}`);
  out.textContent = `${clock(plot.data[0][at] * 1000, { millis: false })}   ${values.join("   ")}`;
}
