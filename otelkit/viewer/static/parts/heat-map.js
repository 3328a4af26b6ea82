// A histogram over time: a column a step, a row a bucket, the darker the more.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { amount, clock } from "../lib/format.js";
import { colourOf, rem, token } from "../lib/tokens.js";
import { useTheme, useWidth } from "./chart.js";

const HEIGHT_REM = 15;

export function HeatMap({ heat, show, label }) {
  const holder = useRef(null);
  const canvas = useRef(null);
  const width = useWidth(holder);
  const theme = useTheme();
  const [said, setSaid] = useState("");
  const { bounds, rows } = heat;
  const used = usedBuckets(rows);

  useEffect(() => {
    if (!width || !rows.length) return;
    const tone = colourOf("--accent");
    const height = Math.round(HEIGHT_REM * rem());
    const axis = rem() * 5;
    const ratio = devicePixelRatio;
    const element = canvas.current;
    element.width = width * ratio;
    element.height = height * ratio;
    const draw = element.getContext("2d");
    draw.scale(ratio, ratio);
    draw.font = `${Math.round(rem() * 0.82)}px ${token("--sans")}`;
    const muted = colourOf("--muted");
    const most = Math.max(1, ...rows.map(([, counts]) => Math.max(...counts)));
    const count = used[1] - used[0] + 1;
    const plot = { left: axis, width: width - axis - 8, height: height - rem() * 1.8 };
    const cellHeight = plot.height / count;
    const cellWidth = plot.width / rows.length;
    rows.forEach(([, counts], x) => {
      for (let bucket = used[0]; bucket <= used[1]; bucket += 1) {
        if (!counts[bucket]) continue;
        draw.globalAlpha = 0.12 + 0.88 * Math.sqrt(counts[bucket] / most);
        draw.fillStyle = tone;
        const y = plot.height - (bucket - used[0] + 1) * cellHeight;
        draw.fillRect(plot.left + x * cellWidth + 0.5, y + 0.5, Math.max(1, cellWidth - 1), Math.max(1, cellHeight - 1));
      }
    });
    draw.globalAlpha = 1;
    draw.fillStyle = muted;
    draw.textAlign = "right";
    draw.textBaseline = "middle";
    const every = Math.max(1, Math.ceil((rem() * 1.5) / cellHeight));
    for (let bucket = used[0]; bucket <= used[1]; bucket += every) {
      if (bucket >= bounds.length) continue;
      draw.fillText(show(bounds[bucket]), axis - 6, plot.height - (bucket - used[0] + 1) * cellHeight + 1 + rem() * 0.3);
    }
    draw.textAlign = "left";
    draw.fillText(clock(rows[0][0], { millis: false }), plot.left, height - rem() * 0.7);
    draw.textAlign = "right";
    draw.fillText(clock(rows[rows.length - 1][0], { millis: false }), width - 8, height - rem() * 0.7);
  }, [heat, width, theme]);

  const point = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const axis = rem() * 5;
    const column = Math.floor(((event.clientX - box.left - axis) / (box.width - axis - 8)) * rows.length);
    const bucket = used[1] - Math.floor(((event.clientY - box.top) / (box.height - rem() * 1.8)) * (used[1] - used[0] + 1));
    const row = rows[column];
    if (!row || bucket < used[0] || bucket > used[1]) return setSaid("");
    const range = bucket === 0 ? `up to ${show(bounds[0])}` : bucket >= bounds.length ? `over ${show(bounds[bounds.length - 1])}` : `${show(bounds[bucket - 1])} – ${show(bounds[bucket])}`;
    return setSaid(`${clock(row[0], { millis: false })}   ${range}: ${amount(row[1][bucket])}`);
  };

  return html`<figure class="chart" ref=${holder}>
    <canvas ref=${canvas} class="heat" role="img" aria-label=${label} onMouseMove=${point} onMouseLeave=${() => setSaid("")}></canvas>
    <figcaption class="read-out num" aria-hidden="true">${said}</figcaption>
  </figure>`;
}

/** The first and the last bucket that hold anything: the many empty ones of fine bounds are not drawn. */
function usedBuckets(rows) {
  let first = Infinity;
  let last = -1;
  for (const [, counts] of rows) {
    counts.forEach((count, i) => {
      if (!count) return;
      first = Math.min(first, i);
      last = Math.max(last, i);
    });
  }
  return last < 0 ? [0, 0] : [Math.max(0, first - 1), last];
}
