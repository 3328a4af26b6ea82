// The part of a trace's time that its waterfall shows: in the URL as zoom=12.5-300, in ms since the trace began.
import { useEffect, useRef, useState } from "../lib/html.js";

const LEAST_MS = 0.01;
const STEP = 2;
const PAN = 0.25;
const DRAGGED_PX = 5;

/** { start, end } of what a URL asks for; the whole trace where it asks for nothing that there is. */
export function zoomOf(text, { start, end }) {
  const [from, to] = (/^([\d.]+)-([\d.]+)$/.exec(text ?? "") ?? []).slice(1).map(Number);
  if (!(from < to) || from >= end - start) return { start, end };
  return within({ start: start + from, end: start + to }, { start, end });
}

/** What the URL says of a part; nothing of the whole. */
export function zoomText(part, { start, end }) {
  if (part.start <= start && part.end >= end) return "";
  const ms = (time) => Number((time - start).toFixed(4));
  return `${ms(part.start)}-${ms(part.end)}`;
}

/** As much as is asked for, moved so that it lies within the whole. */
function within(part, whole) {
  const length = Math.min(Math.max(part.end - part.start, LEAST_MS), whole.end - whole.start);
  const start = Math.min(Math.max(part.start, whole.start), whole.end - length);
  return { start, end: start + length };
}

/** Shorter (`closer`) or longer, around a time, which keeps its place. */
export function scaled(part, whole, around, closer) {
  const factor = closer ? 1 / STEP : STEP;
  return within({ start: around - (around - part.start) * factor, end: around + (part.end - around) * factor }, whole);
}

/** A quarter of it further on, or back. */
export function moved(part, whole, direction) {
  const by = (part.end - part.start) * PAN * direction;
  return within({ start: part.start + by, end: part.end + by }, whole);
}

/** From the first to the last of these spans, with a little room. */
export function around(spans, whole) {
  const start = Math.min(...spans.map((span) => span.start_ms - (span.queue_wait_ms ?? 0)));
  const end = Math.max(...spans.map((span) => span.start_ms + span.duration_ms));
  const room = Math.max(end - start, LEAST_MS) * 0.05;
  return within({ start: Math.max(start - room, whole.start), end: Math.min(end + room, whole.end) }, whole);
}

/**
 * Dragging over the time of the element `scroller` holds: `lines` is as wide as the time is. Returns what is being chosen,
 * as parts of the width, or null; `onChosen` gets it in the end, and no row is clicked then.
 */
export function useDrag(scroller, onChosen) {
  const [chosen, setChosen] = useState(null);
  const last = useRef(onChosen);
  last.current = onChosen;
  useEffect(() => {
    const element = scroller.current;
    let from = null;
    let parts = null;
    const part = (event) => {
      const place = element.querySelector(".lines").getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - place.left) / place.width));
    };
    const down = (event) => {
      if (event.button || event.pointerType === "touch" || !event.target.closest(".span-time")) return;
      from = { x: event.clientX, part: part(event) };
    };
    const move = (event) => {
      if (!from || (!parts && Math.abs(event.clientX - from.x) < DRAGGED_PX)) return;
      if (!parts) element.setPointerCapture(event.pointerId);
      parts = [from.part, part(event)].sort((a, b) => a - b);
      setChosen(parts);
    };
    const up = () => {
      const found = parts;
      from = parts = null;
      if (!found) return;
      setChosen(null);
      element.addEventListener("click", (event) => event.stopPropagation(), { capture: true, once: true });
      last.current(found);
    };
    const cancel = () => {
      from = parts = null;
      setChosen(null);
    };
    const listeners = { pointerdown: down, pointermove: move, pointerup: up, pointercancel: cancel };
    for (const [name, listener] of Object.entries(listeners)) element.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) element.removeEventListener(name, listener);
    };
  }, []);
  return chosen;
}
