// The row of tools over a list: filter, service, period, live or paused.
import { html, useEffect, useMemo, useState } from "../lib/html.js";
import { now, useAsk } from "../lib/api.js";
import { period, RANGE_NAMES, term, withTerm } from "../lib/filter.js";
import { clock } from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { SearchBox } from "./search-box.js";

export function Tools({ params, error, placeholder, children, noServices }) {
  const q = params.get("q") ?? "";
  return html`<div class="tools">
    <${SearchBox} value=${q} error=${error?.status === 400 ? error : null} placeholder=${placeholder} onSearch=${(text) => setParams({ q: text })} />
    ${!noServices && html`<${Services} q=${q} />`}
    <${Period} params=${params} />
    ${children}
  </div>`;
}

function Services({ q }) {
  const { data } = useAsk("services", {}, { everyMs: 20_000 });
  if (!data || data.services.length < 2) return null;
  const chosen = data.services.find(({ name }) => q.includes(term("service", name)))?.name ?? "";
  const choose = (name) => {
    const rest = chosen ? q.replace(term("service", chosen), "").replace(/\s+/g, " ").trim() : q;
    setParams({ q: name ? withTerm(rest, term("service", name)) : rest });
  };
  return html`<select aria-label="Service" value=${chosen} onChange=${(event) => choose(event.target.value)}>
    <option value="">All services</option>
    ${data.services.map(({ name }) => html`<option key=${name} value=${name}>${name}</option>`)}
  </select>`;
}

const MOVE_MS = 30_000;

/** `from` and `to` of the URL; a length that ends now moves on with the time where `moving` says so. */
export function usePeriod(params, { fallback = "", moving = true } = {}) {
  const [moved, move] = useState(0);
  useEffect(() => {
    if (!moving) return undefined;
    const timer = setInterval(() => move((n) => n + 1), MOVE_MS);
    return () => clearInterval(timer);
  }, [moving]);
  return useMemo(() => period(params, now(), fallback), [params.get("range"), params.get("from"), params.get("to"), fallback, moved]);
}

/** The period: a length that ends now, or a fixed one that somebody shared. */
export function Period({ params, fallback = "" }) {
  const fixed = params.get("from") || params.get("to");
  return html`<select
    aria-label="Period" value=${fixed ? "fixed" : (params.get("range") ?? fallback)}
    onChange=${(event) => setParams({ range: event.target.value, from: "", to: "" })}
  >
    ${fixed && html`<option value="fixed">${span(params)}</option>`}
    ${!fallback && html`<option value="">All time</option>`}
    ${RANGE_NAMES.map((name) => html`<option key=${name} value=${name}>Last ${name}</option>`)}
  </select>`;
}

function span(params) {
  const end = (name) => (params.get(name) ? clock(Number(params.get(name)), { millis: false }) : "");
  return `${end("from") || "start"} – ${end("to") || "now"}`;
}

export function Pause({ paused, waiting, state, onToggle }) {
  const said = paused ? `Paused${waiting ? ` · ${waiting} new` : ""}` : state === "lost" ? "Reconnecting …" : "Live";
  return html`<button type="button" data-pause aria-pressed=${String(paused)} title="p" onClick=${onToggle}>
    <span class=${`dot ${!paused && state === "on" ? "ok" : ""}`}></span> ${said}
  </button>`;
}
