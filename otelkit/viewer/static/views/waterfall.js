// The waterfall: one row a span, only those in sight are drawn, so that 5,000 spans scroll like 50.
import { classes, html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../lib/html.js";
import { rem } from "../lib/tokens.js";
import { duration, hue } from "../lib/format.js";
import { take } from "../lib/keys.js";
import { NPlusOne } from "../parts/marks.js";
import { isOpen, joined, matches, own, rows, spansOf, ticks, toShow } from "./trace-tree.js";
import { around, moved, scaled, useDrag } from "./zoom.js";

const ROW_REM = 1.9;
const SPARE_ROWS = 4;
const INDENT_REM = 0.9;
const DEEPEST_INDENT = 24;

/** `view` is the part of the trace's time that is shown. */
export function Waterfall({ tree, view, onZoom, selected, onSelect, needle, toggled, onToggled, logCounts }) {
  const scroller = useRef(null);
  const [sight, setSight] = useState({ top: 0, height: 600, width: 900, row: 27 });
  const [cursor, setCursor] = useState(selected ?? tree.roots[0]?.key);
  const shown = useMemo(() => rows(tree, toggled), [tree, toggled]);
  const at = shown.findIndex(({ node }) => node.key === cursor);
  const length = view.end - view.start;
  const zoomed = length < tree.end - tree.start;
  const chosen = useDrag(scroller, ([from, to]) => onZoom({ start: view.start + from * length, end: view.start + to * length }));

  useLayoutEffect(() => {
    const element = scroller.current;
    const measure = () => {
      const row = Math.round(ROW_REM * rem());
      setSight((old) => {
        const next = { top: element.scrollTop, height: element.clientHeight, width: element.clientWidth, row };
        return Object.keys(next).every((name) => next[name] === old[name]) ? old : next;
      });
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    element.addEventListener("scroll", measure, { passive: true });
    return () => {
      observer.disconnect();
      element.removeEventListener("scroll", measure);
    };
  }, []);

  const reveal = (index) => {
    const element = scroller.current;
    const head = element.firstElementChild.offsetHeight;
    const top = index * sight.row;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + sight.row > element.scrollTop + element.clientHeight - head) {
      element.scrollTop = top + sight.row - element.clientHeight + head;
    }
  };

  // A span that a link names is brought into sight, opened folds and all.
  useEffect(() => {
    const node = selected && find(tree, selected);
    if (!node) return;
    setCursor(selected);
    if (!shown.some((row) => row.node === node)) onToggled(toShow(node, toggled));
  }, [selected, tree]);
  useEffect(() => {
    if (at >= 0) reveal(at);
  }, [cursor, shown]);

  const move = (index) => {
    const row = shown[Math.max(0, Math.min(shown.length - 1, index))];
    if (!row) return;
    setCursor(row.node.key);
    if (selected) onSelect(row.node.key);
  };
  const toggle = (node) => {
    const next = new Set(toggled);
    if (!next.delete(node.key)) next.add(node.key);
    onToggled(next);
  };
  const close = () => {
    const { node } = shown[at] ?? {};
    if (!node) return;
    if (isOpen(node, toggled)) toggle(node);
    else if (node.parent) move(shown.findIndex((row) => row.node === node.parent));
  };
  const open = () => {
    const { node } = shown[at] ?? {};
    if (node?.children.length && !isOpen(node, toggled)) toggle(node);
    else move(at + 1);
  };
  const zoom = (closer) => {
    const spans = shown[at] ? spansOf(shown[at].node) : [];
    const middle = spans.length ? Math.min(...spans.map((span) => span.start_ms)) + spans[0].duration_ms / 2 : 0;
    const inSight = middle >= view.start && middle <= view.end;
    onZoom(scaled(view, tree, inSight ? middle : view.start + length / 2, closer));
  };
  const keys = {
    "+": () => zoom(true),
    "=": () => zoom(true),
    "-": () => zoom(false),
    0: () => onZoom(tree),
    z: () => shown[at] && onZoom(around(spansOf(shown[at].node), tree)),
    "[": () => onZoom(moved(view, tree, -1)),
    "]": () => onZoom(moved(view, tree, 1)),
    j: () => move(at + 1),
    k: () => move(at - 1),
    ArrowDown: () => move(at + 1),
    ArrowUp: () => move(at - 1),
    ArrowLeft: close,
    ArrowRight: open,
    Home: () => move(0),
    End: () => move(shown.length - 1),
    PageDown: () => move(at + Math.floor(sight.height / sight.row) - 2),
    PageUp: () => move(at - Math.floor(sight.height / sight.row) + 2),
    Enter: () => cursor && onSelect(cursor),
    Escape: () => (selected ? onSelect(null) : onZoom(tree)),
  };
  // Elements of the details and buttons keep their own Enter.
  const inside = (name) =>
    name !== "Enter" || document.activeElement === document.body || document.activeElement === scroller.current || document.activeElement?.id === "main";
  // Before the next key comes: an effect after the next frame would let it act on the row that was left.
  useLayoutEffect(() =>
    take(
      Object.fromEntries(
        Object.entries(keys).map(([name, act]) => [
          name,
          () => {
            if (!inside(name) || (name === "Escape" && !selected && !zoomed)) return false;
            act();
            return true;
          },
        ]),
      ),
    ),
  );

  const first = Math.max(0, Math.floor(sight.top / sight.row) - SPARE_ROWS);
  const last = Math.min(shown.length, Math.ceil((sight.top + sight.height) / sight.row) + SPARE_ROWS);
  // A row that scrolls out lends its elements to the one that scrolls in: changing them is cheaper than making new ones.
  const slots = Math.ceil(sight.height / sight.row) + 2 * SPARE_ROWS + 1;
  const marks = ticks(length, Math.max(2, Math.floor(sight.width / 220)));

  return html`<div
    class="waterfall" ref=${scroller} tabindex="0" role="treegrid" aria-label="Spans" aria-rowcount=${shown.length + 1}
    aria-activedescendant=${at >= first && at < last ? `row-${cursor}` : null}
  >
    <div class="span-head" role="row" aria-rowindex="1">
      <div role="columnheader" class="span-name">Span</div>
      <div role="columnheader" class="span-time" aria-label="Time">
        ${marks.map((mark) => html`<span key=${mark} class="tick" style=${tickAt(mark / length)}>${tickText(mark, view.start - tree.start)}</span>`)}
      </div>
    </div>
    <div class="span-rows" role="rowgroup" style=${{ height: `${shown.length * sight.row}px` }}>
      <div class="lines" aria-hidden="true">${marks.map((mark) => html`<i key=${mark} style=${{ left: `${(mark / length) * 100}%` }}></i>`)}</div>
      ${shown.slice(first, last).map((row, i) =>
        Row({
          ...row, view, index: first + i, slot: (first + i) % slots, height: sight.row, logs: logCounts.get(row.node.key) ?? 0,
          isCursor: row.node.key === cursor, isSelected: row.node.key === selected,
          found: needle ? matches(row.node, needle) : null,
          onOpen: () => {
            setCursor(row.node.key);
            onSelect(row.node.key);
          },
          onToggle: (event) => {
            event.stopPropagation();
            setCursor(row.node.key);
            toggle(row.node);
          },
        }),
      )}
      ${chosen && html`<div class="lines over" aria-hidden="true"><i class="chosen" style=${{ left: `${chosen[0] * 100}%`, width: `${(chosen[1] - chosen[0]) * 100}%` }}></i></div>`}
    </div>
  </div>`;
}

// Where the trace does not begin at the left end, the first mark says where that is, and the others how far from it.
const tickText = (mark, offset) => (offset && mark ? `+${duration(mark)}` : duration(offset + mark));

// Right of its line, where there is room.
const tickAt = (part) => (part < 0.9 ? { left: `${part * 100}%` } : { right: `${(1 - part) * 100}%` });

function find(tree, key) {
  if (!key.startsWith("fold:")) return tree.byId.get(key);
  const member = tree.byId.get(key.slice(5));
  return member?.parent?.group ? member.parent : null;
}

function Row({ node, depth, open, view, index, slot, height, logs, isCursor, isSelected, found, onOpen, onToggle }) {
  const spans = spansOf(node);
  const service = spans[0].service;
  const bad = spans.some((span) => span.status === "error");
  const critical = spans.some((span) => span.critical);
  const events = node.span?.events?.length ?? 0;
  return html`<div
    key=${slot} id=${`row-${node.key}`} role="row" aria-level=${depth} aria-rowindex=${index + 2} aria-selected=${String(isSelected)}
    aria-expanded=${node.children.length ? String(open) : null} data-span=${node.key}
    class=${classes("span-row", `s${hue(service)}`, isCursor && "cursor", isSelected && "selected", found && "found", found === false && "dim")}
    style=${{ transform: `translateY(${index * height}px)`, height: `${height}px` }} onClick=${onOpen}
  >
    <div role="gridcell" class="span-name" style=${{ paddingLeft: `${0.4 + Math.min(depth - 1, DEEPEST_INDENT) * INDENT_REM}rem` }}>
      ${node.children.length
        ? html`<button type="button" tabindex="-1" class="twisty" aria-label=${open ? "Close" : `Open ${node.children.length} below`} onClick=${onToggle}><span class=${open ? "open" : ""}></span></button>`
        : html`<span class="twisty"></span>`}
      <span class="dot service"></span>
      <span class="clip label">${node.group ? node.group.statement || node.group.name : node.span.name}</span>
      ${node.group && html`<b class="times num">x ${node.members.length}</b>`}
      ${node.group?.n_plus_one && html`<${NPlusOne} />`}
      ${bad && html`<span class="dot error" role="img" aria-label="error"></span>`}
      ${node.span?.attributes["celery.task.state"] === "RETRY" && html`<span class="chip warn" title="This attempt asked to be run again">retry</span>`}
      ${node.lost && html`<span class="chip" title=${node.lost}>${node.lost}</span>`}
      ${!open && node.span && node.children.length > 0 && html`<span class="chip num">+${below(node)}</span>`}
      ${logs + events > 0 && html`<span class="chip num" title=${`${logs} logs, ${events} events`}>≡ ${logs + events}</span>`}
    </div>
    <div role="gridcell" class="span-time"><${Bars} node=${node} spans=${spans} view=${view} bad=${bad} critical=${critical} /></div>
  </div>`;
}

function below(node) {
  let count = 0;
  const stack = [...node.children];
  while (stack.length) {
    const next = stack.pop();
    if (next.span) count += 1;
    stack.push(...next.children);
  }
  return count;
}

function Bars({ node, spans, view, bad, critical }) {
  const length = view.end - view.start;
  // What is cut off ends a little outside, so that its end is not seen.
  const part = (time) => Math.min(1.05, Math.max(-0.05, (time - view.start) / length));
  const place = ([from, to]) => ({ left: `${part(from) * 100}%`, width: `${Math.max(0, part(to) - part(from)) * 100}%` });
  const start = Math.min(...spans.map((span) => span.start_ms));
  const end = Math.max(...spans.map((span) => span.start_ms + span.duration_ms));
  const spent = node.group ? node.group.duration_ms : node.span.duration_ms;
  const wait = node.span?.queue_wait_ms ?? 0;
  if (end < view.start) return html`<span class="spent num outside" style=${{ left: 0 }}>‹ ${duration(spent)}</span>`;
  if (start - wait > view.end) return html`<span class="spent num outside" style=${{ right: 0 }}>${duration(spent)} ›</span>`;
  const seen = (intervals) => joined(intervals, length / 400).filter(([from, to]) => to >= view.start && from <= view.end);
  const solid = node.group
    ? seen(spans.map((span) => [span.start_ms, span.start_ms + span.duration_ms]).sort((a, b) => a[0] - b[0]))
    : seen(own(node));
  // The text stands where there is room: right of the bar, else left of it, else on it.
  const right = part(end);
  const left = part(start - wait);
  const where = right < 0.82 ? "after" : left > 0.16 ? "before" : "on";
  const textAt = where === "after" ? { left: `${right * 100}%` } : where === "before" ? { right: `${(1 - left) * 100}%` } : { right: "0" };
  return html`
    ${wait > 0 && html`<i class="wait" title=${`waited ${duration(wait)} in the queue`} style=${place([start - wait, start])}></i>`}
    <i class="whole" style=${place([start, end])}></i>
    ${solid.map((interval, i) => html`<i key=${i} class=${bad ? "solid bad-bar" : "solid"} style=${place(interval)}></i>`)}
    ${critical && html`<i class="critical" title="on the critical path" style=${place([start, end])}></i>`}
    <span class=${`spent num ${where}`} style=${textAt}>${duration(spent)}${wait > 0 ? ` · waited ${duration(wait)}` : ""}</span>
  `;
}
