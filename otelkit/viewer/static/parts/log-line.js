// One log record: a line that opens.
import { html, useState } from "../lib/html.js";
import { dateTime, zone } from "../lib/format.js";
import { Service, Time, TraceLink } from "./marks.js";
import { Pairs } from "./pairs.js";
import { Stack } from "./stack.js";

export function level(number) {
  if (number >= 17) return "error";
  if (number >= 13) return "warn";
  return number >= 9 ? "info" : "debug";
}

const BIG = ["exception.stacktrace"];

export function LogLine({ log, withTrace = true, withService = true, fresh }) {
  const [open, setOpen] = useState(false);
  const kind = level(log.severity_number);
  const stack = log.attributes?.["exception.stacktrace"];
  const rest = Object.fromEntries(Object.entries(log.attributes ?? {}).filter(([name]) => !BIG.includes(name)));
  const said = log.body ? (typeof log.body === "string" ? log.body : JSON.stringify(log.body)) : log.event_name;
  return html`<li class=${`log ${kind} ${open ? "log-open" : ""} ${fresh ? "arrived" : ""}`} data-log=${log.id}>
    <div class="log-head">
      <button type="button" data-row class="log-line" aria-expanded=${String(open)} onClick=${() => setOpen(!open)}>
        <${Time} ms=${log.time_ms} relative=${false} />
        <span class=${`level ${kind}`}>${log.severity || kind.toUpperCase()}</span>
        ${withService ? html`<${Service} name=${log.service} />` : html`<span></span>`}
        <span class="said-body">${said || html`<span class="muted">no text</span>`}</span>
      </button>
      ${withTrace && html`<${TraceLink} trace=${log.trace_id} span=${log.span_id} />`}
    </div>
    ${open &&
    html`<div class="log-more">
      <div class="facts">
        <span>${dateTime(log.time_ms)} ${zone()}</span>
        ${log.scope && html`<span>logger <b>${log.scope}</b></span>`}
        ${log.event_name && html`<span>event <b>${log.event_name}</b></span>`}
        ${log.trace_id && html`<span>trace <${TraceLink} trace=${log.trace_id}>${log.trace_id}<//></span>`}
        ${log.span_id && html`<span>span <${TraceLink} trace=${log.trace_id} span=${log.span_id}>${log.span_id}<//></span>`}
      </div>
      ${stack && html`<${Stack} text=${stack} />`}
      <${Pairs} values=${rest} list="/logs" />
    </div>`}
  </li>`;
}
