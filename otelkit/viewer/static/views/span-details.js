// All that is known of one span, or of a fold of repeated queries.
import { html } from "../lib/html.js";
import { dateTime, duration, percent, zone } from "../lib/format.js";
import { url } from "../lib/router.js";
import { LogLine } from "../parts/log-line.js";
import { NPlusOne, Service, TraceLink } from "../parts/marks.js";
import { Pairs } from "../parts/pairs.js";
import { Stack } from "../parts/stack.js";
import { ownTime } from "./trace-tree.js";

export function Details({ node, trace, tree, onClose }) {
  return html`<aside class="details" aria-label="Details">
    <button type="button" class="plain close" aria-label="Close the details (esc)" onClick=${onClose}>×</button>
    ${node.group ? html`<${Fold} node=${node} trace=${trace} />` : html`<${Span} node=${node} trace=${trace} tree=${tree} />`}
  </aside>`;
}

function Fact({ name, children }) {
  return html`<div><dt>${name}</dt><dd class="num">${children}</dd></div>`;
}

function Span({ node, trace, tree }) {
  const { span } = node;
  const logs = (trace.logs ?? []).filter((log) => log.span_id === span.span_id);
  const self = ownTime(node);
  const events = span.events ?? [];
  const exceptions = events.filter((event) => event.attributes?.["exception.stacktrace"] || event.name === "exception");
  const others = events.filter((event) => !exceptions.includes(event));
  const links = span.links ?? [];
  return html`
    <h2>${span.name}</h2>
    <p class="facts"><${Service} name=${span.service} /><span>${span.kind}</span>
      ${span.status === "error" ? html`<span class="chip error">error</span>` : span.status === "ok" ? html`<span class="chip ok">ok</span>` : ""}
      ${span.critical && html`<span class="chip accent">critical path</span>`}
    </p>
    ${span.status_message && html`<p class="bad">${span.status_message}</p>`}
    <dl class="measures">
      <${Fact} name="Duration">${duration(span.duration_ms)}<//>
      <${Fact} name="Own time">${duration(self)} <span class="muted">${span.duration_ms > 0 ? percent(self / span.duration_ms) : ""}</span><//>
      <${Fact} name="Starts after">${duration(span.start_ms - tree.start)}<//>
      ${span.queue_wait_ms > 0 && html`<${Fact} name="Waited in queue">${duration(span.queue_wait_ms)}<//>`}
    </dl>
    <p class="muted num">${dateTime(span.start_ms)} ${zone()}</p>
    ${exceptions.map(
      (event, i) => html`<section key=${i} aria-label="Exception">
        <h3 class="bad">${event.attributes["exception.type"] ?? "Exception"}</h3>
        ${event.attributes["exception.message"] && html`<p>${event.attributes["exception.message"]}</p>`}
        ${event.attributes["exception.stacktrace"] && html`<${Stack} text=${event.attributes["exception.stacktrace"]} />`}
      </section>`,
    )}
    ${logs.length > 0 &&
    html`<section aria-label="Logs of this span"><h3>Logs <a href=${url("/logs", { trace: trace.trace_id, span: span.span_id })}>open as a list</a></h3>
      <ul class="logs-inside">${logs.slice(0, 200).map((log) => html`<${LogLine} key=${log.id} log=${log} withTrace=${false} withService=${false} />`)}</ul></section>`}
    <section aria-label="Attributes"><h3>Attributes</h3><${Pairs} values=${span.attributes} list="/traces" /></section>
    ${others.length > 0 &&
    html`<section aria-label="Events"><h3>Events</h3>${others.map(
      (event, i) => html`<details key=${i} open><summary><b>${event.name}</b> <span class="muted num">+${duration(event.time_ms - span.start_ms)}</span></summary>
        <${Pairs} values=${event.attributes} label=${event.name} /></details>`,
    )}</section>`}
    ${links.length > 0 &&
    html`<section aria-label="Links"><h3>Links</h3>${links.map(
      (link, i) => html`<div key=${i}><${TraceLink} trace=${link.trace_id} span=${link.span_id}>${link.trace_id} / ${link.span_id}<//>
        ${Object.keys(link.attributes ?? {}).length > 0 && html`<${Pairs} values=${link.attributes} label="Link" />`}</div>`,
    )}</section>`}
    <details><summary><h3 class="inline">Resource</h3></summary><${Pairs} values=${trace.resources?.[span.resource]} label="Resource" /></details>
    <p class="facts"><span>span <a class="mono" href=${url(`/traces/${trace.trace_id}`, { span: span.span_id })}>${span.span_id}</a></span>
      ${span.parent_id && html`<span>parent <a class="mono" href=${url(`/traces/${trace.trace_id}`, { span: span.parent_id })}>${span.parent_id}</a></span>`}
      ${span.scope && html`<span>from <b>${span.scope}</b></span>`}</p>`;
}

function Fold({ node, trace }) {
  const { group, members } = node;
  const longest = [...members].sort((a, b) => b.span.duration_ms - a.span.duration_ms);
  return html`
    <h2>${group.statement || group.name} <b class="times num">x ${members.length}</b></h2>
    <p class="facts"><${Service} name=${members[0].span.service} />${group.n_plus_one && html`<${NPlusOne} />`}</p>
    ${group.n_plus_one && html`<p>The same query ran ${members.length} times under one parent, once for each row that another query had found. Load them together: a join, or one query with IN.</p>`}
    <dl class="measures">
      <${Fact} name="Together">${duration(group.duration_ms)}<//>
      <${Fact} name="Each, on average">${duration(group.duration_ms / members.length)}<//>
      <${Fact} name="Longest">${duration(longest[0].span.duration_ms)}<//>
    </dl>
    <section aria-label="Longest"><h3>The longest</h3><ul>${longest.slice(0, 10).map(
      ({ span }) => html`<li key=${span.span_id}><${TraceLink} trace=${trace.trace_id} span=${span.span_id}>${span.span_id}<//> <span class="num">${duration(span.duration_ms)}</span></li>`,
    )}</ul></section>
    <section aria-label="Attributes"><h3>Attributes of the first</h3><${Pairs} values=${members[0].span.attributes} list="/traces" /></section>`;
}
