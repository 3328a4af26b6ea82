// One trace: its head, the waterfall with details, or its logs.
import { html, useEffect, useMemo, useState } from "../lib/html.js";
import { now, useAsk } from "../lib/api.js";
import { duration, several } from "../lib/format.js";
import { go, setParams, url } from "../lib/router.js";
import { Failed, Loading } from "../parts/empty.js";
import { LogLine } from "../parts/log-line.js";
import { Copy, Service, Time } from "../parts/marks.js";
import { Details } from "./span-details.js";
import { matches, tree as build } from "./trace-tree.js";
import { Waterfall } from "./waterfall.js";
import { zoomOf, zoomText } from "./zoom.js";

const FRESH_MS = 30_000;
const AGAIN_MS = 2000;
const PATIENCE_MS = 30_000;

export function Trace({ id, params }) {
  const [every, setEvery] = useState(AGAIN_MS);
  const { data, error, loading, again } = useAsk(`traces/${encodeURIComponent(id)}`, {}, { everyMs: every });
  const [opened] = useState(Date.now);
  useEffect(() => {
    // Spans still come in for a while, also for a trace whose link is followed before its first span has arrived.
    const waiting = data ? now() - data.start_ms - data.duration_ms < FRESH_MS : error?.status === 404 && Date.now() - opened < PATIENCE_MS;
    setEvery(loading || waiting ? AGAIN_MS : 0);
  }, [data, error, loading]);

  if (!data && error?.status === 404) {
    return html`<div class="empty" role="status"><h2>This trace is not here${every ? " yet" : ""}</h2>
      <p class="muted">${every ? "Its spans arrive when they have ended and are sent, mostly within seconds: looking again." : "It was never received, or is older than what is kept."}</p>
      <code>${id}</code><a href="/traces">All traces</a></div>`;
  }
  if (!data) return error ? html`<${Failed} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`<${Shown} trace=${data} params=${params} />`;
}

function Shown({ trace, params }) {
  const signature = `${trace.trace_id} ${trace.spans.length} ${(trace.logs ?? []).length}`;
  const tree = useMemo(() => build(trace), [signature]);
  const [toggled, setToggled] = useState(() => new Set());
  const [needle, setNeedle] = useState("");
  const logs = trace.logs ?? [];
  const logCounts = useMemo(() => counts(logs), [signature]);
  const selected = params.get("span");
  const view = zoomOf(params.get("zoom"), tree);
  const zoomed = view.end - view.start < tree.end - tree.start;
  const zoom = (part) => setParams({ zoom: zoomText(part, tree) }, { replace: zoomed });
  const tab = params.get("tab") === "logs" || !trace.spans.length ? "logs" : "spans";
  const node = selected && (selected.startsWith("fold:") ? tree.byId.get(selected.slice(5))?.parent : tree.byId.get(selected));
  const select = (key) => {
    const target = url(location.pathname, { span: key, zoom: params.get("zoom") });
    go(target, { replace: Boolean(selected && key) });
  };
  const found = useMemo(() => (needle ? [...tree.byId.values()].filter((item) => matches(item, needle)).map((item) => item.key) : []), [tree, needle]);
  const findNext = (event) => {
    if (event.key !== "Enter" || !found.length) return;
    event.preventDefault();
    select(found[(found.indexOf(selected) + 1) % found.length]);
  };
  const root = tree.roots[0]?.span;
  const errors = trace.spans.filter((span) => span.status === "error").length;
  const all = (open) => {
    const next = new Set();
    for (const item of tree.byId.values()) {
      if (!open && item.children.length && item.parent) next.add(item.key);
      if (open && item.parent?.group) next.add(item.parent.key);
    }
    setToggled(next);
  };

  return html`<div class="trace">
    <div class="heading">
      <h1>${root?.name ?? trace.trace_id}</h1>
      <span class="facts id"><span class="mono clip" title=${trace.trace_id}>${trace.trace_id}</span><${Copy} text=${trace.trace_id} label="Copy id" /></span>
    </div>
    <div class="heading facts">
      <span><${Time} ms=${trace.start_ms} /></span><span><b class="num">${duration(tree.end - tree.start)}</b></span>
      <span><b class="num">${several(trace.spans.length, "span")}</b></span>
      ${errors > 0 && html`<span class="bad"><b class="num bad">${errors}</b> with errors</span>`}
      ${services(trace).map(([name, count]) => html`<span key=${name} class="nowrap"><${Service} name=${name} /> <span class="num">${count}</span></span>`)}
    </div>
    ${trace.cut && html`<p class="notice">This trace has more spans than are shown: the first ${trace.spans.length} by start.</p>`}
    <div class="tools">
      <div class="switch" role="group" aria-label="Show">
        <button type="button" aria-pressed=${String(tab === "spans")} onClick=${() => setParams({ tab: "" })}>Spans</button>
        <button type="button" aria-pressed=${String(tab === "logs")} onClick=${() => setParams({ tab: "logs", span: "" })}>Logs <span class="num">${logs.length}</span></button>
      </div>
      ${tab === "spans" &&
      html`<div class="find"><input data-search type="search" aria-label="Find in this trace" placeholder="Find in this trace" value=${needle} onInput=${(event) => setNeedle(event.target.value.trim().toLowerCase())} onKeyDown=${findNext} /></div>
        ${needle && html`<span class="found-count muted num" role="status">${found.length ? `${found.length} found · enter shows the next` : "none found"}</span>`}
        ${zoomed && html`<button type="button" title="Show the whole trace (0)" onClick=${() => zoom(tree)}><span class="num">${duration(view.start - tree.start)} to ${duration(view.end - tree.start)}</span> ×<span class="hidden-label"> Show the whole trace</span></button>`}
        <button type="button" class="narrow-off" onClick=${() => all(true)}>Open all</button><button type="button" class="narrow-off" onClick=${() => all(false)}>Close all</button>
        <ul class="legend narrow-off" aria-label="Legend"><li><i class="solid"></i>own time</li><li><i class="whole"></i>in children</li><li><i class="critical"></i>critical path</li><li><i class="wait"></i>queue wait</li></ul>`}
      ${tab === "logs" && html`<a class="as-button" href=${url("/logs", { trace: trace.trace_id })}>Open as a list</a>`}
    </div>
    ${tab === "logs"
      ? html`<div class="list">${logs.length ? html`<ul>${logs.map((log) => html`<${LogLine} key=${log.id} log=${log} />`)}</ul>` : html`<p class="said-small">No logs were sent with this trace.</p>`}</div>`
      : html`<div class=${`split ${node ? "with-details" : ""}`}>
          <${Waterfall} tree=${tree} view=${view} onZoom=${zoom} selected=${selected} onSelect=${select} needle=${needle} toggled=${toggled} onToggled=${setToggled} logCounts=${logCounts} />
          ${node && html`<${Details} key=${node.key} node=${node} trace=${trace} tree=${tree} onClose=${() => select(null)} />`}
        </div>`}
  </div>`;
}

function services(trace) {
  const found = new Map();
  for (const { service } of trace.spans) found.set(service, (found.get(service) ?? 0) + 1);
  return [...found].sort((a, b) => b[1] - a[1]);
}

function counts(logs) {
  const found = new Map();
  for (const { span_id: id } of logs) if (id) found.set(id, (found.get(id) ?? 0) + 1);
  return found;
}
