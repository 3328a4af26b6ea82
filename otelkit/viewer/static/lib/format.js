// Durations, times, amounts and ids as people read them.
import { now } from "./api.js";
import { keep, stored } from "./stored.js";

/** A number with at most so many digits after the point. */
const trim = (number, digits) => String(Number(number.toFixed(digits)));

/** 850 µs, 12.3 ms, 1.25 s, 3 m 20 s, 2 h 5 m */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 0) return `-${duration(-ms)}`;
  if (ms === 0) return "0 ms";
  if (ms < 0.001) return `${Math.max(1, Math.round(ms * 1e6))} ns`;
  if (ms < 1) return `${trim(ms * 1000, ms < 0.01 ? 1 : 0)} µs`;
  if (ms < 10) return `${trim(ms, 2)} ms`;
  if (ms < 100) return `${trim(ms, 1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${trim(s, s < 10 ? 2 : 1)} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} m ${Math.floor(s % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} m`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** 999, 12.3k, 4.56M */
export function amount(number) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  if (size >= 1e9) return `${trim(number / 1e9, 2)}G`;
  if (size >= 1e6) return `${trim(number / 1e6, 2)}M`;
  if (size >= 1e4) return `${trim(number / 1e3, 1)}k`;
  if (Number.isInteger(number)) return String(number);
  if (size >= 100) return trim(number, 0);
  if (size >= 1) return trim(number, 2);
  return number === 0 ? "0" : String(Number(number.toPrecision(3)));
}

/** "1 span", "12.3k spans" */
export const several = (number, one, many = `${one}s`) => `${amount(number)} ${number === 1 ? one : many}`;

/** 12,345,678 */
export const exact = (number) => (typeof number === "number" ? number.toLocaleString("en-US") : "–");

/** 12.3/s; 4.5/min or 3/h where that is less than one in ten seconds or a minute. */
export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined) return "–";
  const [times, unit] = !perSecond || perSecond >= 0.1 ? [1, "s"] : perSecond * 60 >= 1 ? [60, "min"] : [3600, "h"];
  return `${amount(Number((perSecond * times).toPrecision(3)))}/${unit}`;
}

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let size = number;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${trim(size, size < 10 && unit ? 1 : 0)} ${units[unit]}`;
}

/** A measured value with its UCUM unit. */
export function measured(value, unit, { rate = false } = {}) {
  if (value === null || value === undefined) return "–";
  const per = rate ? "/s" : "";
  if (unit === "s") return rate ? `${amount(value)} s/s` : duration(value * 1000);
  if (unit === "ms") return rate ? `${amount(value)} ms/s` : duration(value);
  if (unit === "By") return `${bytes(value)}${per}`;
  if (unit === "1" && !rate) return amount(value);
  const name = unit && unit !== "1" ? ` ${unit.replace(/^\{(.*)\}$/, "$1")}` : "";
  return `${amount(value)}${name}${per}`;
}

export function percent(ratio) {
  if (!ratio) return "0 %";
  return ratio < 0.0005 ? "<0.1 %" : `${trim(ratio * 100, ratio < 0.1 ? 1 : 0)} %`;
}

/** 3 s ago, 5 m ago, 2 d ago */
export function ago(ms, at = now()) {
  const s = Math.round((at - ms) / 1000);
  if (s < -1) return `in ${roughly(-s)}`;
  return s < 1 ? "just now" : `${roughly(s)} ago`;
}

function roughly(s) {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

const zoneName = () => (stored("zone", "local") === "utc" ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone);

const formats = new Map();
function parts(ms) {
  const zone = zoneName();
  if (!formats.has(zone)) {
    formats.set(
      zone,
      new Intl.DateTimeFormat("en-GB", {
        timeZone: zone,
        year: "numeric",
        month: "2-digit",
        day: "2-digit",
        hour: "2-digit",
        minute: "2-digit",
        second: "2-digit",
        fractionalSecondDigits: 3,
      }),
    );
  }
  return Object.fromEntries(
    formats
      .get(zone)
      .formatToParts(new Date(ms))
      .map(({ type, value }) => [type, value]),
  );
}

/** 2026-11-26 14:03:22.123 */
export function dateTime(ms) {
  const p = parts(ms);
  return `${p.year}-${p.month}-${p.day} ${p.hour}:${p.minute}:${p.second}.${p.fractionalSecond}`;
}

/** 14:03:22.123, with the date before it when that is not today's. */
export function clock(ms, { millis = true } = {}) {
  const p = parts(ms);
  const today = parts(now());
  const day = p.day === today.day && p.month === today.month && p.year === today.year ? "" : `${p.month}-${p.day} `;
  return `${day}${p.hour}:${p.minute}:${p.second}${millis ? `.${p.fractionalSecond}` : ""}`;
}

/** UTC, or Europe/Berlin UTC+1 */
export function zone() {
  const name = zoneName();
  if (name === "UTC") return "UTC";
  const offset = -new Date(now()).getTimezoneOffset() / 60;
  return `${name} UTC${offset < 0 ? "-" : "+"}${trim(Math.abs(offset), 2)}`;
}

export const shortId = (id) => (id ? id.slice(0, 8) : "");

/** An attribute's value as one line. */
export function text(value) {
  if (typeof value === "string") return value;
  return JSON.stringify(value);
}

/** One of eight colours by name, the same on every page; two of the first eight services never share one. */
export function hue(name) {
  const taken = stored("hues", {});
  if (name in taken) return taken[name];
  let hash = 2166136261;
  for (let i = 0; i < (name ?? "").length; i += 1) hash = Math.imul(hash ^ name.charCodeAt(i), 16777619);
  let found = (hash >>> 0) % 8;
  const used = new Set(Object.values(taken));
  for (let tries = 0; used.has(found) && tries < 8; tries += 1) found = (found + 3) % 8;
  // More names than anyone has services: they are not remembered, and keep the colour of their hash.
  if (Object.keys(taken).length < 64) keep("hues", { ...taken, [name]: found });
  return found;
}
