// What a view says when it has nothing to show: why, and the exact command that changes it.
import { createContext, html, useContext } from "../lib/html.js";
import { setParams } from "../lib/router.js";
import { Copy } from "./marks.js";

/** What /api/v1/info said; null until then. */
export const Info = createContext(null);

export const endpoint = (info) => info?.otlp?.http ?? location.origin;

export const Command = ({ text }) =>
  html`<div class="command"><code tabindex="0">${text}</code><${Copy} text=${text} /></div>`;

/** `what` is a plural: "traces". With a filter or a period the way out is to remove it, else to send something. */
export function Empty({ what, filtered, hint }) {
  const info = useContext(Info);
  if (filtered) {
    return html`<div class="empty">
      <h2>No ${what} match</h2>
      <p class="muted">Nothing that was received fits this filter and period.</p>
      <button type="button" onClick=${() => setParams({ q: "", range: "", from: "", to: "", severity: "", service: "" })}>Remove filter and period</button>
    </div>`;
  }
  return html`<div class="empty">
    <h2>No ${what} yet</h2>
    <p class="muted">${hint ?? `They appear here as soon as a program sends them to ${endpoint(info)}.`}</p>
    <p>A Python service, without a change to its code:</p>
    <${Command} text=${`OTEL_EXPORTER_OTLP_ENDPOINT=${endpoint(info)} otelkit run uvicorn app:app`} />
    <p>Anything else that speaks OpenTelemetry:</p>
    <${Command} text=${`export OTEL_EXPORTER_OTLP_ENDPOINT=${endpoint(info)} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf`} />
  </div>`;
}

export const Failed = ({ error, again }) =>
  html`<div class="empty" role="alert">
    <h2>${error.status === 404 ? "Not here" : "That did not work"}</h2>
    <p class="muted">${error.message}</p>
    ${again && html`<button type="button" onClick=${again}>Try again</button>`}
  </div>`;

export const Loading = () => html`<p class="said-small" role="status">Loading …</p>`;
