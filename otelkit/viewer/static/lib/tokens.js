// What the style sheets say, for what is drawn by hand.
const root = () => getComputedStyle(document.documentElement);

/** The size of text, in pixels. */
export const rem = () => parseFloat(root().fontSize);

/** A token of base.css that is no colour, as `--sans`. */
export const token = (name) => root().getPropertyValue(name).trim();

/** A colour of base.css, as `--accent`, for the theme of now: the token itself names both. */
export function colourOf(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.documentElement.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
