// Does the telemetry itself arrive? What this viewer took in, and each process's ledger.
import { html, useContext } from "../lib/html.js";
import { useAsk } from "../lib/api.js";
import { amount, bytes, duration, exact, several } from "../lib/format.js";
import { Command, Empty, endpoint, Failed, Info, Loading } from "../parts/empty.js";
import { Service, Time } from "../parts/marks.js";
import { Pairs } from "../parts/pairs.js";

const sum = (counts) => Object.values(counts ?? {}).reduce((total, n) => total + (typeof n === "number" ? n : sum(n)), 0);

export function Health() {
  const info = useContext(Info);
  const { data, error, again } = useAsk("health", {}, { everyMs: 5000 });
  if (!data) return error ? html`<${Failed} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`
    <div class="heading"><h1>Telemetry health</h1></div>
    <div class="page">
      <section class="panel" aria-label="This viewer"><header><h2>This viewer</h2>${info && html`<span class="muted">version ${info.version}</span>`}
        <span class=${`chip ${info?.behind ? "warn" : "ok"}`}>${info?.behind ? "behind: senders wait" : "keeps up"}</span></header>
        <div class="body facts">
          ${info && html`<span>up <b>${duration(info.now_ms - info.started_ms)}</b></span><span>OTLP/HTTP <b class="mono">${info.otlp.http}</b></span>${info.otlp.grpc && html`<span>OTLP/gRPC <b class="mono">${info.otlp.grpc}</b></span>`}
          <span>kept in <b>${info.database ?? "memory"}</b>, <b>${bytes(info.bytes)}</b></span><span><b class="num">${several(info.rows.spans, "span")}</b></span><span><b class="num">${several(info.rows.logs, "log")}</b></span><span><b class="num">${several(info.rows.points, "point")}</b></span>`}
          <${Counts} title="received" counts=${data.viewer.received} /><${Counts} title="rejected" counts=${data.viewer.rejected} bad /><${Counts} title="dropped for room" counts=${data.viewer.dropped} />
        </div>
      </section>
      ${data.processes.map((process) => html`<${Process} key=${process.instance ?? `${process.service} ${process.pid}`} process=${process} />`)}
      ${!data.processes.length &&
      (info?.rows.spans + info?.rows.logs > 0
        ? html`<section class="panel"><h2>No process told its state</h2><div class="body"><p>What arrives comes from other SDKs. A process with otelkit tells each minute what it sent, kept and dropped:</p><${Command} text=${`OTEL_EXPORTER_OTLP_ENDPOINT=${endpoint(info)} otelkit run uvicorn app:app`} /></div></section>`
        : html`<${Empty} what="processes" />`)}
    </div>`;
}

function Counts({ title, counts, bad }) {
  const total = sum(counts);
  const told = Object.entries(counts ?? {}).map(([reason, n]) => `${reason}: ${typeof n === "number" ? n : sum(n)}`).join(", ");
  return html`<span title=${told}>${title} <b class=${`num ${bad && total ? "bad" : ""}`}>${amount(total)}</b>${total > 0 && html` <span class="muted">(${told})</span>`}</span>`;
}

function Process({ process }) {
  const ledger = Object.entries(process.ledger ?? {});
  const lost = ledger.reduce((total, [, one]) => total + sum(one.dropped), 0);
  return html`<section class="panel process" aria-label=${`${process.service} ${process.pid ?? ""}`} data-process=${process.instance}>
    <header><h2><${Service} name=${process.service} /></h2><span class="muted num">${process.pid ? `pid ${process.pid}` : ""} ${process.host ? `on ${process.host}` : ""}</span>
      <span class="muted">${process.ended ? "ended" : process.told_ms ? "told" : "last heard"} <${Time} ms=${process.told_ms ?? process.last_ms} absolute=${false} /></span>
      <span class=${`chip ${lost ? "error" : ledger.length ? "ok" : ""}`}>${lost ? `${amount(lost)} dropped` : ledger.length ? "nothing dropped" : "tells no ledger"}</span></header>
    ${ledger.length > 0 &&
    html`<div class="scroll" tabindex="0" role="group" aria-label="Ledger"><table class="narrow">
      <thead><tr><th>Signal</th><th class="fit right">Accepted</th><th class="fit right">Delivered</th><th class="fit right">In memory</th><th class="fit right">In the spool</th><th>Dropped</th></tr></thead>
      <tbody>${ledger.map(
        ([signal, one]) => html`<tr key=${signal}><th scope="row">${signal}</th><td class="fit right num">${exact(one.accepted)}</td><td class="fit right num">${exact(one.delivered)}</td>
          <td class="fit right num">${exact(one.queued)}</td><td class="fit right num">${exact(one.spooled)}</td><td>${reasons(one.dropped)}</td></tr>`,
      )}</tbody></table></div>`}
    ${process.told_ms && html`<div class="body facts">${spool(process.spool)}${Object.entries(process.failures).map(([place, n]) => html`<span key=${place}>${place} failed <b class="num bad">${exact(n)}</b> times</span>`)}</div>`}
    <div class="body grid-2">
      <div><h3>Instrumented</h3>${process.instrumented?.length
        ? html`<div class="scroll" tabindex="0" role="group" aria-label="Instrumented"><table><tbody>${process.instrumented.map(({ library, by, why }) => html`<tr key=${`${library} ${by}`}><th scope="row" class="fit">${library}</th><td class="fit"><span class=${`chip ${by === "off" ? "" : "accent"}`}>${by}</span></td><td class="muted">${why}</td></tr>`)}</tbody></table></div>`
        : html`<p class="muted">nothing was told</p>`}</div>
      <div><h3>Versions</h3><${Pairs} values=${{ ...(process.language ? { language: process.language } : {}), ...(process.sdk ? { sdk: process.sdk } : {}), ...process.versions }} label="Versions" />
        ${process.started_ms && html`<p class="muted">started <${Time} ms=${process.started_ms} /></p>`}</div>
    </div>
  </section>`;
}

function spool(state) {
  if (state === null) return html`<span>spool <b>off</b></span>`;
  return html`<span>spool <b class=${state ? "bad" : ""}>${state ? `cannot be written: ${state}` : "can be written"}</b></span>`;
}

function reasons(dropped) {
  const entries = Object.entries(dropped ?? {}).filter(([, n]) => n);
  if (!entries.length) return html`<span class="muted">none</span>`;
  return entries.map(([reason, n]) => html`<span key=${reason} class="chip error">${reason} ${exact(n)}</span> `);
}
