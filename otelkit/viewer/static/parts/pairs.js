// Attributes as a table; a click on a value filters by it.
import { html } from "../lib/html.js";
import { term } from "../lib/filter.js";
import { text } from "../lib/format.js";
import { url } from "../lib/router.js";

/** `list` is the page that a click filters: "/traces" or "/logs"; without it values are no links. */
export function Pairs({ values, list, label = "Attributes" }) {
  const names = Object.keys(values ?? {}).sort();
  if (!names.length) return html`<p class="muted">none</p>`;
  return html`<table class="pairs" aria-label=${label}><tbody>
    ${names.map((name) => {
      const value = text(values[name]);
      const link = list && typeof values[name] !== "object" && value.length < 300;
      return html`<tr key=${name}>
        <th scope="row">${name}</th>
        <td>${link ? html`<a href=${url(list, { q: term(name, value) })} title="filter by this">${value === "" ? '""' : value}</a>` : value}</td>
      </tr>`;
    })}
  </tbody></table>`;
}
