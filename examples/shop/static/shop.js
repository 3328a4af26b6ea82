// Sends a button's request, and says what came of it and where its trace is.
const viewer = document.body.dataset.viewer;

const about = document.getElementById("viewer");
if (viewer) about.append("All of them, as they come: ", link(viewer, viewer));
else about.append("Without SHOP_VIEWER_URL, the address of an otelkit ui, only the traces' ids are shown.");

for (const button of document.querySelectorAll("button")) button.addEventListener("click", () => send(button));

async function send(button) {
  const { method, path, body } = button.dataset;
  const said = button.closest("li").querySelector("output");
  if (button.ariaDisabled === "true") return;
  // Not `disabled`, which would take the focus from who uses a keyboard.
  button.ariaDisabled = "true";
  said.replaceChildren("…");
  const started = performance.now();
  try {
    const headers = body ? { "content-type": "application/json" } : {};
    const answer = await fetch(path, { method, body, headers, cache: "no-store" });
    const first = performance.now();
    await answer.text();
    said.replaceChildren(...told(answer, first - started, performance.now() - started), traceOf(answer, button));
  } catch {
    said.replaceChildren("The shop does not answer.");
  } finally {
    button.ariaDisabled = "false";
  }
}

function told(answer, firstMs, allMs) {
  const status = document.createElement("strong");
  status.append(String(answer.status));
  if (!answer.ok) status.className = "bad";
  const streamed = allMs - firstMs > 50 ? `, its beginning after ${Math.round(firstMs)} ms` : "";
  return [status, ` after ${Math.round(allMs)} ms${streamed}. `];
}

function traceOf(answer, button) {
  const id = /traceparent;desc="00-([0-9a-f]{32})-/.exec(answer.headers.get("server-timing") ?? "")?.[1];
  if (!id) return "No trace: telemetry is off.";
  if (viewer) return link(`${viewer}/traces/${id}`, "See its trace", ` of “${button.textContent}”`);
  const code = document.createElement("code");
  code.append(id);
  const alone = document.createElement("span");
  alone.append("Trace ", code);
  return alone;
}

// In a tab of its own, so that the shop's page stays; which is said to those who do not see it, and what it is about.
function link(href, text, about = "") {
  const anchor = document.createElement("a");
  Object.assign(anchor, { href, target: "_blank", rel: "noopener" });
  const unseen = document.createElement("span");
  unseen.className = "unseen";
  unseen.append(`${about} (new tab)`);
  anchor.append(text, unseen);
  return anchor;
}
