// Small things that look the same everywhere: a service, a status, a time, an id, an amount.
import { html, useEffect, useState } from "../lib/html.js";
import { ago, clock, dateTime, duration, hue, shortId, zone } from "../lib/format.js";
import { url } from "../lib/router.js";
import { useStored } from "../lib/stored.js";

export const Service = ({ name }) =>
  html`<span class=${`service-name s${hue(name)}`}><span class="dot service"></span><span class="clip">${name || "unknown"}</span></span>`;

/** The other services of a trace, as coloured squares with a readable name. */
export function Others({ names, but }) {
  const others = (names ?? []).filter((name) => name !== but);
  if (!others.length) return null;
  return html`<span class="others" role="img" aria-label=${`with ${others.join(", ")}`} title=${others.join(", ")}>
    ${others.slice(0, 6).map((name) => html`<span key=${name} class=${`dot service s${hue(name)}`}></span>`)}
  </span>`;
}

export function Status({ status, http }) {
  const bad = status === "error" || http >= 500;
  if (http) return html`<span class=${`chip num ${bad ? "error" : http >= 400 ? "warn" : ""}`}>${http}</span>`;
  return bad ? html`<span class="chip error">error</span>` : html`<span class="muted">${status === "ok" ? "ok" : ""}</span>`;
}

/** The clock's time and, with `relative`, how long ago that is; both are kept right while the page is open. */
export function Time({ ms, relative = true, absolute = true }) {
  useStored("zone", "local");
  const [, tick] = useState(0);
  useEffect(() => {
    if (!relative) return undefined;
    const timer = setInterval(() => tick((n) => n + 1), 5000);
    return () => clearInterval(timer);
  }, [relative]);
  if (!ms) return html`<span class="muted">–</span>`;
  return html`<time class="num nowrap" datetime=${new Date(ms).toISOString()} title=${`${dateTime(ms)} ${zone()}`}>
    ${absolute && clock(ms)}${absolute && relative && " "}
    ${relative && html`<span class=${absolute ? "muted wide-only" : ""}>${ago(ms)}</span>`}
  </time>`;
}

export const traceUrl = (trace, span) => url(`/traces/${trace}`, { span });

export const TraceLink = ({ trace, span, children, ...rest }) =>
  trace
    ? html`<a class="mono nowrap" href=${traceUrl(trace, span)} title=${`trace ${trace}`} ...${rest}>${children ?? shortId(trace)}</a>`
    : null;

/** A bar whose length is a duration beside the longest, on a root scale: short ones stay visible. */
export function Meter({ value, most, bad }) {
  const width = most > 0 ? Math.max(2, Math.sqrt(value / most) * 100) : 0;
  return html`<svg class=${`meter ${bad ? "error" : ""}`} viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
    <rect class="back" width="100" height="8" rx="2" /><rect class="value" width=${width} height="8" rx="2" />
  </svg>`;
}

export const Duration = ({ ms }) => html`<span class="num nowrap">${duration(ms)}</span>`;

export const NPlusOne = () =>
  html`<span class="chip warn" title="The same query for each of many rows: one query could fetch them all">N+1</span>`;

export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone(true);
      setTimeout(() => setDone(false), 1500);
    } catch {
      // Refused by the browser: the text is there to be selected.
    }
  };
  return html`<button type="button" class="plain" onClick=${copy}>${done ? "Copied" : label}</button>`;
}
