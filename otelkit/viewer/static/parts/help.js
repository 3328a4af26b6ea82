// Keys and the filter language, in a dialog.
import { html, useEffect, useRef } from "../lib/html.js";
import { KEYS } from "../lib/keys.js";

const FILTERS = [
  ["service:shop", "of one service"],
  ["route:/orders/*", "a route; * stands for anything"],
  ["status:error", "with an error"],
  ["duration>100ms", "longer than; also < >= <="],
  ["http.response.status_code>=500", "any attribute"],
  ["severity>=warn", "logs of a severity or above"],
  ['"not found"', "text in names, bodies, messages"],
  ["-kind:internal", "not"],
  ["(status:error OR duration>1s)", "one or the other"],
];

export function Help({ open, onClose }) {
  const dialog = useRef(null);
  useEffect(() => {
    if (open) dialog.current.showModal();
  }, [open]);
  return html`<dialog ref=${dialog} aria-labelledby="help-title" onClose=${onClose} onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
    <header><h2 id="help-title">Help</h2><button type="button" class="plain" aria-label="Close" onClick=${() => dialog.current.close()}>×</button></header>
    <h3>Keys</h3>
    <dl class="keys">${KEYS.map(([keys, does]) => html`<dt key=${keys}><kbd>${keys}</kbd></dt><dd>${does}</dd>`)}</dl>
    <h3>Filter</h3>
    <p class="muted">Terms beside each other must all fit.</p>
    <dl class="keys">${FILTERS.map(([term, does]) => html`<dt key=${term}><code>${term}</code></dt><dd>${does}</dd>`)}</dl>
  </dialog>`;
}
