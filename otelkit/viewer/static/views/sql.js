// One SELECT over what is stored, for the curious; the address keeps it.
import { html, useContext, useEffect, useRef, useState } from "../lib/html.js";
import { ask } from "../lib/api.js";
import { several } from "../lib/format.js";
import { setParams } from "../lib/router.js";
import { Info, Loading } from "../parts/empty.js";
import { TraceLink } from "../parts/marks.js";

const EXAMPLES = [
  ["the slowest spans", "SELECT service, name, duration_ns / 1e6 AS ms, trace_id\nFROM spans ORDER BY duration_ns DESC LIMIT 20"],
  ["log records a minute", "SELECT service, severity_text, time_bucket(INTERVAL 1 minute, make_timestamp_ns(time_ns)) AS minute, count(*) AS records\nFROM logs GROUP BY ALL ORDER BY minute DESC LIMIT 100"],
  ["an attribute's values", "SELECT attributes->>'$.\"http.route\"' AS route, count(*) AS spans\nFROM spans GROUP BY ALL ORDER BY spans DESC"],
  ["the columns of a table", "SELECT column_name, column_type FROM (DESCRIBE spans)"],
];
const TABLES = ["spans", "logs", "points", "series", "resources", "errors", "edges", "red", "statements", "services", "seen"];
const TRACE = /^[0-9a-f]{32}$/;

export function Sql({ params }) {
  const info = useContext(Info);
  const query = params.get("query") ?? "";
  const [text, setText] = useState(query);
  const [round, setRound] = useState(0);
  const [answer, setAnswer] = useState({ data: null, error: null, loading: false });
  const area = useRef(null);

  useEffect(() => setText(query), [query]);
  useEffect(() => {
    if (!query || !info?.sql) return undefined;
    const abort = new AbortController();
    setAnswer({ data: null, error: null, loading: true });
    ask("sql", {}, { signal: abort.signal, body: { query } }).then(
      (data) => setAnswer({ data, error: null, loading: false }),
      (error) => error.name === "AbortError" || setAnswer({ data: null, error, loading: false }),
    );
    return () => abort.abort();
  }, [query, round, info?.sql]);

  const run = (event) => {
    event?.preventDefault();
    const wanted = text.trim();
    if (!wanted) area.current.focus();
    else if (wanted === query) setRound(round + 1);
    else setParams({ query: wanted });
  };
  const pressed = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(event);
  };

  if (!info) return html`<${Loading} />`;
  if (!info.sql) return html`<div class="empty"><h2>No SQL here</h2><p class="muted">It is answered where the viewer listens on loopback alone: this one was started with --host.</p></div>`;
  const { data, error, loading } = answer;
  return html`
    <div class="heading"><h1>SQL</h1></div>
    <div class="page">
      <form class="panel" aria-label="Query" onSubmit=${run}><div class="body sql">
        <textarea ref=${area} data-search aria-label="One SELECT" rows=${Math.min(14, Math.max(4, text.split("\n").length + 1))} spellcheck="false" autocapitalize="off" placeholder="SELECT service, count(*) FROM spans GROUP BY ALL" value=${text} onInput=${(event) => setText(event.target.value)} onKeyDown=${pressed}></textarea>
        <div class="facts"><button type="submit" class="primary">Run</button><span class="muted">or ctrl + enter; one SELECT of DuckDB's, which can change nothing</span></div>
        <div class="facts"><span class="muted">Tables:</span>${TABLES.map((name) => html`<code key=${name}>${name}</code>`)}</div>
        <div class="facts"><span class="muted">For example:</span>${EXAMPLES.map(([name, example]) => html`<button key=${name} type="button" onClick=${() => setParams({ query: example })}>${name}</button>`)}</div>
      </div></form>
      ${error && html`<section class="panel" role="alert"><h2>That did not work</h2><div class="body"><pre class="sql-error">${error.message}</pre></div></section>`}
      ${loading && html`<${Loading} />`}
      ${data && html`<section class="panel" aria-label="Result"><header><h2>${several(data.rows.length, "row")}</h2>${data.cut && html`<span class="chip warn">more were found: the first are shown</span>`}</header>
        <div class="scroll" tabindex="0" role="group" aria-label="Rows"><table>
          <thead><tr>${data.columns.map((name, i) => html`<th key=${i}>${name}</th>`)}</tr></thead>
          <tbody>${data.rows.map((row, i) => html`<tr key=${i}>${row.map((value, j) => html`<td key=${j} class=${typeof value === "number" ? "num" : ""}>${cell(data.columns[j], value)}</td>`)}</tr>`)}</tbody>
        </table></div></section>`}
    </div>`;
}

function cell(column, value) {
  if (value === null) return html`<span class="muted">null</span>`;
  if (column === "trace_id" && TRACE.test(value)) return html`<${TraceLink} trace=${value}>${value}<//>`;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
