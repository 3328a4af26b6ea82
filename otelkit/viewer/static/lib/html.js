// The one place that joins preact and htm: every view imports its markup and hooks from here.
import { Component, createContext, h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";

export const html = htm.bind(h);
export { Component, createContext, render };
export {
  useCallback,
  useContext,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "../vendor/preact-hooks.js";

/** Joins class names and leaves out what is false. */
export const classes = (...names) => names.filter(Boolean).join(" ");
