// The frame: the bar with its pages and marks, and the view that the path names.
import { Component, html, render, useEffect, useLayoutEffect, useRef, useState } from "./lib/html.js";
import { useAsk } from "./lib/api.js";
import { zone } from "./lib/format.js";
import { listen } from "./lib/keys.js";
import { go, useRoute } from "./lib/router.js";
import { useStored } from "./lib/stored.js";
import { Info } from "./parts/empty.js";
import { Help } from "./parts/help.js";
import { useUnread } from "./parts/unread.js";
import { ErrorGroup } from "./views/error-group.js";
import { Errors } from "./views/errors.js";
import { Health } from "./views/health.js";
import { Logs } from "./views/logs.js";
import { Metrics } from "./views/metrics.js";
import { Queries } from "./views/queries.js";
import { ServiceMap } from "./views/service-map.js";
import { Trace } from "./views/trace.js";
import { Sql } from "./views/sql.js";
import { Traces } from "./views/traces.js";

const PAGES = [
  ["/traces", "Traces", Traces, Trace],
  ["/logs", "Logs", Logs],
  ["/errors", "Errors", Errors, ErrorGroup],
  ["/metrics", "Metrics", Metrics, Metrics],
  ["/map", "Service map", ServiceMap],
  ["/queries", "Queries", Queries],
  ["/health", "Telemetry health", Health],
  ["/sql", "SQL", Sql],
];

function App() {
  const route = useRoute();
  const info = useAsk("info", {}, { everyMs: 10_000 });
  const unread = useUnread();
  const [help, setHelp] = useState(false);
  const main = useRef(null);
  useLayoutEffect(() => listen(() => setHelp(true)), []);
  useEffect(() => {
    if (route.path === "/") go("/traces", { replace: true });
  }, [route.path]);

  const [, first, ...rest] = route.path.split("/");
  const page = PAGES.find(([path]) => path === `/${first}`);
  const id = rest.length ? decodeURIComponent(rest.join("/")) : null;
  useEffect(() => {
    document.title = `${unread ? `(${unread}) ` : ""}${id ? `${id.slice(0, 24)} · ` : ""}${page?.[1] ?? "otelkit"} · otelkit`;
  }, [page, id, unread]);

  useEffect(() => {
    document.querySelector('.tabs [aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [page]);

  const View = id && page?.[3] ? page[3] : page?.[2];
  return html`<${Info.Provider} value=${info.data}>
    <div class="frame">
      <a class="skip" href="#main" onClick=${(event) => {
        event.preventDefault();
        main.current.focus();
      }}>To the content</a>
      <header class="bar">
        <a class="brand" href="/traces"><img src="/static/icon.svg" alt="" />otelkit</a>
        <nav class="tabs" aria-label="Pages">
          ${PAGES.filter(([path]) => path !== "/sql" || info.data?.sql !== false).map(
            ([path, name]) => html`<a key=${path} href=${path} aria-current=${page?.[0] === path ? "page" : null}>
              ${name}${path === "/errors" && unread ? html`<span class="badge" aria-label=${`${unread} unread`}>${unread}</span>` : ""}
            </a>`,
          )}
        </nav>
        <div class="bar-end">
          <${Zone} /><${Theme} />
          <button type="button" class="plain" aria-label="Help" title="Help (?)" onClick=${() => setHelp(true)}>?</button>
        </div>
      </header>
      ${info.data?.behind && html`<p class="notice" role="status">More arrives than can be stored: senders are told to wait.</p>`}
      ${info.error?.status === 0 && html`<p class="notice" role="alert">${info.error.message}</p>`}
      <main id="main" class="view" tabindex="-1" ref=${main}>
        <${Boundary} key=${route.path}>
          ${View ? html`<${View} id=${id} params=${route.params} />` : route.path !== "/" && html`<div class="empty"><h2>No such page</h2><a href="/traces">Traces</a></div>`}
        <//>
      </main>
    </div>
    <${Help} open=${help} onClose=${() => setHelp(false)} />
  <//>`;
}

/** A view that breaks must not take the bar with it. */
class Boundary extends Component {
  static getDerivedStateFromError(error) {
    return { error };
  }

  render({ children }, { error }) {
    if (!error) return children;
    console.error(error);
    return html`<div class="empty" role="alert"><h2>This view broke</h2><p class="muted">${String(error)}</p></div>`;
  }
}

function Zone() {
  const [name, setName] = useStored("zone", "local");
  return html`<button type="button" class="plain" title="Time zone of all times: local or UTC" onClick=${() => setName(name === "utc" ? "local" : "utc")}>
    <span class="hidden-label">Time zone: </span>${zone()}
  </button>`;
}

const THEMES = ["system", "light", "dark"];

function Theme() {
  const [name, setName] = useStored("theme", "system");
  useEffect(() => {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
  }, [name]);
  const next = THEMES[(THEMES.indexOf(name) + 1) % THEMES.length];
  return html`<button type="button" class="plain" title=${`Theme: ${name}; change to ${next}`} onClick=${() => setName(next)}>
    <span class="hidden-label">Theme: ${name}</span><span aria-hidden="true">${{ system: "◐", light: "○", dark: "●" }[name]}</span>
  </button>`;
}

render(html`<${App} />`, document.getElementById("app"));
