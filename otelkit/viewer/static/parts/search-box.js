// The filter: a text in the URL, completed by what was received.
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { ask } from "../lib/api.js";

const WAIT_MS = 120;

export function SearchBox({ value, onSearch, placeholder, error }) {
  const [text, setText] = useState(value);
  const [options, setOptions] = useState([]);
  const [from, setFrom] = useState(0);
  const [chosen, setChosen] = useState(-1);
  const input = useRef(null);
  const asked = useRef({ timer: 0, abort: null });

  useEffect(() => setText(value), [value]);
  useEffect(() => () => stop(), []);

  function stop() {
    clearTimeout(asked.current.timer);
    asked.current.abort?.abort();
  }

  function close() {
    stop();
    setOptions([]);
    setChosen(-1);
  }

  function complete(query, at) {
    stop();
    asked.current.timer = setTimeout(async () => {
      asked.current.abort = new AbortController();
      try {
        const answer = await ask("complete", { q: query, at: String(at) }, asked.current);
        if (document.activeElement !== input.current) return;
        setFrom(answer.from);
        setOptions(answer.options.slice(0, 12));
        setChosen(-1);
      } catch {
        setOptions([]);
      }
    }, WAIT_MS);
  }

  function accept(option) {
    const at = input.current.selectionStart ?? text.length;
    const changed = text.slice(0, from) + option.text + text.slice(at);
    const caret = from + option.text.length;
    setText(changed);
    setOptions([]);
    setChosen(-1);
    requestAnimationFrame(() => {
      input.current.focus();
      input.current.setSelectionRange(caret, caret);
      if (option.kind !== "value") complete(changed, caret);
    });
  }

  function key(event) {
    const open = options.length > 0;
    if (event.key === "ArrowDown" && open) setChosen((chosen + 1) % options.length);
    else if (event.key === "ArrowUp" && open) setChosen((chosen <= 0 ? options.length : chosen) - 1);
    else if (event.key === "ArrowDown") return complete(text, event.target.selectionStart);
    else if (event.key === "Tab" && open && !event.shiftKey) accept(options[Math.max(0, chosen)]);
    else if (event.key === "Enter" && open && chosen >= 0) accept(options[chosen]);
    else if (event.key === "Enter") {
      close();
      onSearch(text.trim());
    } else if (event.key === "Escape" && open) {
      event.stopPropagation();
      close();
    } else return undefined;
    event.preventDefault();
    return undefined;
  }

  return html`<form class="search" role="search" onSubmit=${(event) => event.preventDefault()}>
    <input
      ref=${input} data-search type="text" role="combobox" autocomplete="off" autocapitalize="off" spellcheck=${false} enterkeyhint="search"
      aria-label="Filter" aria-autocomplete="list" aria-expanded=${String(options.length > 0)} aria-controls="search-options"
      aria-activedescendant=${chosen >= 0 ? `search-option-${chosen}` : null} aria-invalid=${String(Boolean(error))}
      placeholder=${placeholder} value=${text} onKeyDown=${key}
      onInput=${(event) => {
        setText(event.target.value);
        complete(event.target.value, event.target.selectionStart);
      }}
      onFocus=${(event) => complete(event.target.value, event.target.selectionStart)}
      onBlur=${() => setTimeout(close, 100)}
    />
    ${text || value
      ? html`<button type="button" class="plain clear" aria-label="Clear the filter" onClick=${() => {
          setText("");
          onSearch("");
        }}>×</button>`
      : html`<span class="hint" aria-hidden="true"><kbd>/</kbd></span>`}
    <ul id="search-options" role="listbox" aria-label="Completions" class="options" hidden=${!options.length}>
      ${options.map(
        (option, i) => html`<li
          key=${option.text} id=${`search-option-${i}`} role="option" aria-selected=${String(i === chosen)}
          onMouseDown=${(event) => {
            event.preventDefault();
            accept(option);
          }}
        ><span>${option.text}</span><span>${option.count ?? option.kind}</span></li>`,
      )}
    </ul>
    ${error && html`<p class="said" role="alert">${error.message}${pointer(value, error.at)}</p>`}
  </form>`;
}

/** Where in the filter the fault is. */
function pointer(query, at) {
  if (at === undefined || at === null) return null;
  return html` <code>${query.slice(Math.max(0, at - 20), at)}<b>▸</b>${query.slice(at, at + 20)}</code>`;
}
