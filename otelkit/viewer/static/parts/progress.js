// How far a search has come that looks through more than the newest, with the way to stop it and to go on.
import { html } from "../lib/html.js";
import { clock, percent } from "../lib/format.js";

export function Progress({ search, what, found }) {
  const { running, parts, searched, backTo, cut, next } = search;
  if (running ? !parts && !searched : !cut) return null;
  const far = `searched ${percent(Math.floor(searched * 100) / 100)}${backTo ? `, back to ${clock(backTo, { millis: false })}` : ""}`;
  return html`<div class="progress">
    ${running && html`<progress aria-label="Search" max="1" value=${searched}></progress>`}
    <p role=${running ? null : "status"}>${cut ? `${cut}: ${far}` : `S${far.slice(1)}`}${found ? "" : `, no ${what} yet`}</p>
    ${running
      ? html`<button type="button" onClick=${search.stop}>Stop</button>`
      : next && html`<button type="button" onClick=${search.goOn}>Go on</button>`}
  </div>`;
}
