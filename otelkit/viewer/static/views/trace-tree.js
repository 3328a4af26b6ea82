// A trace's spans as a tree of rows: repeated queries folded, lost parents and cycles survived. No drawing here.

/**
 * Returns { roots, byId, start, end }; a node is { key, span, parent, children, lost } or, for a fold of repeated queries,
 * { key, group, members, parent, children }. Every span is in the tree exactly once, whatever its parent says.
 */
export function tree(trace) {
  const byId = new Map();
  for (const span of trace.spans) {
    // A span that was received twice is shown once.
    if (!byId.has(span.span_id)) byId.set(span.span_id, { key: span.span_id, span, parent: null, children: [], lost: "" });
  }
  const nodes = [...byId.values()].sort((a, b) => a.span.start_ms - b.span.start_ms);
  const roots = [];
  for (const node of nodes) {
    const parent = node.span.parent_id ? byId.get(node.span.parent_id) : null;
    if (parent && parent !== node) {
      node.parent = parent;
      parent.children.push(node);
    } else {
      if (node.span.parent_id) node.lost = parent ? "its own parent" : "parent not received";
      roots.push(node);
    }
  }
  breakCycles(nodes, roots);
  fold(trace.repeated ?? [], byId, roots);
  // Logs can be there before any span is.
  let start = nodes.length ? Infinity : trace.start_ms;
  let end = nodes.length ? -Infinity : trace.start_ms + trace.duration_ms;
  for (const { span } of nodes) {
    start = Math.min(start, span.start_ms - (span.queue_wait_ms ?? 0));
    end = Math.max(end, span.start_ms + span.duration_ms);
  }
  return { roots, byId, start, end: Math.max(end, start + 0.001) };
}

function breakCycles(nodes, roots) {
  const seen = new Set();
  const visit = (root) => {
    const stack = [root];
    while (stack.length) {
      const node = stack.pop();
      if (seen.has(node)) continue;
      seen.add(node);
      stack.push(...node.children);
    }
  };
  roots.forEach(visit);
  for (const node of nodes) {
    if (seen.has(node)) continue;
    // Only members of a cycle, and what hangs from them, are left: the earliest becomes a root.
    node.parent.children = node.parent.children.filter((child) => child !== node);
    node.parent = null;
    node.lost = "parents form a cycle";
    roots.push(node);
    visit(node);
  }
  roots.sort((a, b) => a.span.start_ms - b.span.start_ms);
}

function fold(repeated, byId, roots) {
  for (const group of repeated) {
    const parent = byId.get(group.parent_id) ?? null;
    const siblings = parent ? parent.children : roots;
    const ids = new Set(group.span_ids);
    const members = siblings.filter((node) => node.span && ids.has(node.key));
    if (members.length < 2) continue;
    const folded = { key: `fold:${members[0].key}`, group, members, parent, children: members };
    for (const member of members) member.parent = folded;
    siblings.splice(siblings.indexOf(members[0]), 0, folded);
    const inside = new Set(members);
    const rest = siblings.filter((node) => !inside.has(node));
    siblings.splice(0, siblings.length, ...rest);
  }
}

/** Which rows are shown, from top to bottom. `toggled` holds the keys that are not as at first: spans open, folds closed. */
export function rows({ roots }, toggled) {
  const shown = [];
  const stack = roots.map((node) => [node, 1]).reverse();
  while (stack.length) {
    const [node, depth] = stack.pop();
    const open = isOpen(node, toggled);
    shown.push({ node, depth, open });
    if (open) for (let i = node.children.length - 1; i >= 0; i -= 1) stack.push([node.children[i], depth + 1]);
  }
  return shown;
}

export function isOpen(node, toggled) {
  if (!node.children.length) return false;
  return Boolean(node.group) === toggled.has(node.key);
}

/** The keys to toggle so that a row is seen. */
export function toShow(node, toggled) {
  const next = new Set(toggled);
  for (let up = node.parent; up; up = up.parent) {
    if (!isOpen(up, next)) {
      if (up.group) next.add(up.key);
      else next.delete(up.key);
    }
  }
  return next;
}

const ends = ({ start_ms, duration_ms }) => [start_ms, start_ms + duration_ms];

/** The spans of a row: one, or all that are folded into it. */
export const spansOf = (node) => (node.group ? node.members.map(({ span }) => span) : [node.span]);

/** When a span worked itself, no child of it: its gaps. Intervals in ms, in order. */
export function own(node) {
  if (node.own) return node.own;
  const [start, end] = ends(node.span);
  const busy = node.children
    .flatMap(spansOf)
    .map(ends)
    .map(([from, to]) => [Math.max(start, from), Math.min(end, to)])
    .filter(([from, to]) => to > from)
    .sort((a, b) => a[0] - b[0]);
  const gaps = [];
  let at = start;
  for (const [from, to] of busy) {
    if (from > at) gaps.push([at, from]);
    at = Math.max(at, to);
  }
  if (at < end) gaps.push([at, end]);
  node.own = gaps;
  return gaps;
}

export const ownTime = (node) => own(node).reduce((sum, [from, to]) => sum + to - from, 0);

/** Intervals that are too near to be told apart at `step` ms are joined: 10,000 ticks need no 10,000 elements. */
export function joined(intervals, step) {
  const out = [];
  for (const [from, to] of intervals) {
    const last = out[out.length - 1];
    if (last && from - last[1] < step) last[1] = Math.max(last[1], to);
    else out.push([from, to]);
  }
  return out;
}

/** Round numbers for an axis of `length` ms with about `count` marks. */
export function ticks(length, count) {
  const rough = length / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999) ?? rough;
  const marks = [];
  for (let at = 0; at <= length * 0.999; at += step) marks.push(at);
  return marks;
}

export function matches(node, needle) {
  if (!needle) return false;
  return spansOf(node).some((span) => {
    span.haystack ??= [span.name, span.service, span.status_message, JSON.stringify(span.attributes)].join(" ").toLowerCase();
    return span.haystack.includes(needle);
  });
}
