// Runs before the page is drawn, so that a chosen theme never flashes the other one; therefore no module.
(() => {
  let chosen = null;
  try {
    chosen = JSON.parse(localStorage.getItem("otelkit.theme"));
  } catch {
    // Storage can be refused: the system's theme is shown then.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
