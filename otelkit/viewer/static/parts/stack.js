// A stack trace: what the application wrote stands out from what libraries did.
import { html } from "../lib/html.js";

const LIBRARY = /site-packages|dist-packages|\/lib\/python\d|node_modules|<frozen |\/usr\/lib\//;

export function Stack({ text, label = "Stack trace" }) {
  let library = false;
  const lines = text.replace(/\s+$/, "").split("\n");
  return html`<pre class="stack" tabindex="0" aria-label=${label} role="region">${lines.map((line, i) => {
    if (/^\s*File "/.test(line)) library = LIBRARY.test(line);
    const told = !/^\s/.test(line) && !/^(Traceback|During handling|The above exception)/.test(line) && line !== "";
    return html`<span key=${i} class=${told ? "told" : library && /^\s/.test(line) ? "library" : ""}>${line}${"\n"}</span>`;
  })}</pre>`;
}
