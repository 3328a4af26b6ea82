// What the style sheets say, for what is drawn by hand.
const root = () => getComputedStyle(document.documentElement);

/** The size of text, in pixels. */
export const rem = () => parseFloat(root().fontSize);

/** A token of base.css, as `--accent`. */
export const token = (name) => root().getPropertyValue(name).trim();
