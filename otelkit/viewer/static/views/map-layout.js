// Places of the service map: callers left of whom they call, crossings few. Numbers only, no drawing.

export const NODE = { width: 190, height: 62 };
const GAP_X = 150;
const GAP_Y = 30;
const MARGIN = 24;
const SWEEPS = 8;
const BEND_HEIGHT = 14;

/** Nodes with x and y, edges with the path of their line and the place of their text. */
export function layout({ nodes, edges }) {
  const ids = new Set(nodes.map(({ id }) => id));
  const kept = edges.filter(({ from, to }) => ids.has(from) && ids.has(to) && from !== to);
  const depth = depths(nodes, kept);
  const { columns, chains, links } = columnsOf(nodes, kept, depth);
  order(columns, links);
  const tallest = Math.max(...columns.map(heightOf));
  const places = new Map();
  columns.forEach((column, x) => {
    let y = MARGIN + (tallest - heightOf(column)) / 2;
    for (const one of column) {
      places.set(one, { x: MARGIN + x * (NODE.width + GAP_X), y, height: one.height });
      y += one.height + GAP_Y;
    }
  });
  const byId = new Map(columns.flat().flatMap((one) => (one.node ? [[one.node.id, places.get(one)]] : [])));
  const drawn = kept.map((edge) => ({ ...edge, ...line(byId.get(edge.from), byId.get(edge.to), chains.get(edge).map((bend) => places.get(bend))) }));
  return {
    width: MARGIN * 2 + columns.length * NODE.width + (columns.length - 1) * GAP_X,
    height: Math.max(MARGIN * 2 + tallest, ...drawn.map(({ low }) => low + MARGIN)),
    nodes: nodes.map((node) => ({ ...node, ...byId.get(node.id) })),
    edges: drawn,
  };
}

const heightOf = (column) => column.reduce((sum, one) => sum + one.height + GAP_Y, -GAP_Y);

/** The longest way from a caller that nobody calls; a call back, which closes a circle, does not count. */
function depths(nodes, edges) {
  const out = new Map(nodes.map(({ id }) => [id, []]));
  for (const { from, to } of edges) out.get(from).push(to);
  const called = new Set(edges.map(({ to }) => to));
  const starts = [...nodes].sort((a, b) => called.has(a.id) - called.has(b.id));
  const state = new Map();
  const forward = new Map(nodes.map(({ id }) => [id, []]));
  const finished = [];
  const visit = (id) => {
    state.set(id, "open");
    for (const to of out.get(id)) {
      if (state.get(to) === "open") continue;
      forward.get(id).push(to);
      if (!state.has(to)) visit(to);
    }
    state.set(id, "done");
    finished.push(id);
  };
  for (const { id } of starts) if (!state.has(id)) visit(id);
  const depth = new Map(nodes.map(({ id }) => [id, 0]));
  for (const id of finished.reverse()) for (const to of forward.get(id)) depth.set(to, Math.max(depth.get(to), depth.get(id) + 1));
  return depth;
}

/** Columns of nodes and, for calls that pass a column, of bends: each passes in a place of its own, behind no node. */
function columnsOf(nodes, edges, depth) {
  const columns = [];
  const put = (column, one) => (columns[column] ??= []).push(one);
  const items = new Map();
  for (const node of nodes) {
    items.set(node.id, { node, height: NODE.height });
    put(depth.get(node.id), items.get(node.id));
  }
  const chains = new Map();
  const links = [];
  for (const edge of edges) {
    const chain = [];
    for (let column = depth.get(edge.from) + 1; column < depth.get(edge.to); column += 1) {
      chain.push({ node: null, height: BEND_HEIGHT });
      put(column, chain.at(-1));
    }
    chains.set(edge, chain);
    const way = [items.get(edge.from), ...chain, items.get(edge.to)];
    for (let i = 1; i < way.length; i += 1) links.push([way[i - 1], way[i]]);
  }
  return { columns, chains, links };
}

function order(columns, links) {
  const near = new Map(columns.flat().map((one) => [one, []]));
  for (const [a, b] of links) {
    near.get(a).push(b);
    near.get(b).push(a);
  }
  const place = new Map();
  const number = () => columns.forEach((column) => column.forEach((one, i) => place.set(one, i - column.length / 2)));
  for (const column of columns) column.sort((a, b) => (a.node?.name ?? "").localeCompare(b.node?.name ?? ""));
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      const weight = new Map(
        column.map((one) => [one, near.get(one).length ? near.get(one).reduce((sum, other) => sum + place.get(other), 0) / near.get(one).length : place.get(one)]),
      );
      column.sort((a, b) => weight.get(a) - weight.get(b));
      number();
    }
  }
}

function line(from, to, bends) {
  const start = { x: from.x + NODE.width, y: from.y + NODE.height / 2 };
  const end = { x: to.x - 2, y: to.y + NODE.height / 2 };
  if (end.x > start.x) {
    let path = `M${start.x} ${start.y}`;
    let at = start;
    const towards = (point) => {
      const half = (point.x - at.x) / 2;
      path += `C${at.x + half} ${at.y} ${point.x - half} ${point.y} ${point.x} ${point.y}`;
      at = point;
    };
    const stops = bends.map(({ x, y, height }) => ({ x, y: y + height / 2 }));
    for (const stop of stops) {
      towards(stop);
      at = { x: stop.x + NODE.width, y: stop.y };
      path += `H${at.x}`;
    }
    towards(end);
    const first = stops[0];
    return {
      path,
      x: first ? first.x + NODE.width / 2 : (start.x + end.x) / 2,
      y: first ? first.y : (start.y + end.y) / 2,
      low: Math.max(start.y, end.y),
    };
  }
  // A call back to the left, or within a column: a bow under the nodes.
  const a = { x: from.x + NODE.width / 2, y: from.y + NODE.height };
  const b = { x: to.x + NODE.width / 2, y: to.y + NODE.height };
  const low = Math.max(a.y, b.y) + GAP_Y * 2;
  return { path: `M${a.x} ${a.y}C${a.x} ${low} ${b.x} ${low} ${b.x} ${b.y + 2}`, x: (a.x + b.x) / 2, y: low - GAP_Y / 2, low };
}
