// Terms of the filter language, made by clicks.

/** A value as the filter language takes it: quoted where it has blanks, brackets or quotes. */
export function quoted(value) {
  const plain = String(value);
  if (plain !== "" && /^[^\s"()*:<>=!\\]+$/.test(plain)) return plain;
  return `"${plain.replace(/[\\"]/g, "\\$&")}"`;
}

export const term = (key, value) => `${key}:${quoted(value)}`;

/** Adds a term, once. */
export function withTerm(query, added) {
  const before = (query ?? "").trim();
  if (!before) return added;
  return before.split(/\s+/).includes(added) || before.includes(added) ? before : `${before} ${added}`;
}

const RANGES = { "5m": 300e3, "15m": 900e3, "1h": 3600e3, "6h": 6 * 3600e3, "24h": 24 * 3600e3, "7d": 7 * 24 * 3600e3 };

export const RANGE_NAMES = Object.keys(RANGES);

/** The parameters `from` and `to` of the URL as the backend takes them; `range` is a length that ends now. */
export function period(params, now, fallback = "") {
  const from = Number(params.get("from"));
  const to = Number(params.get("to"));
  if (from || to) return { from: from || null, to: to || null };
  const length = RANGES[params.get("range") ?? fallback];
  return length ? { from: Math.floor((now - length) / 1000) * 1000, to: null } : { from: null, to: null };
}
