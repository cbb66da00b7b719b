// Which view the address asks for, and keeping it up to date.

import { ListView } from "/static/list.js";
import { SpendView } from "/static/spend.js";
import { TraceView } from "/static/waterfall.js";

const root = document.getElementById("view");
const live = document.getElementById("live");
let view = null;

function show() {
  const match = location.pathname.match(/^\/trace\/([^/]+)$/);
  root.replaceChildren();
  const spend = location.pathname === "/spend";
  view = match ? new TraceView(root, decodeURIComponent(match[1])) : spend ? new SpendView(root) : new ListView(root);
  for (const link of document.querySelectorAll(".views a")) {
    if ((link.getAttribute("href") === "/spend") === spend) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  refresh();
}

async function refresh() {
  const current = view;
  try {
    await current.refresh();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    setLive(false);
  }
}

function setLive(isLive) {
  live.textContent = isLive ? "live" : "reconnecting";
  live.classList.toggle("on", isLive);
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a[href^='/']") : null;
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href"));
  show();
  scrollTo(0, 0);
});
addEventListener("popstate", show);

// Money is settled without a span, too, and traces may go elsewhere.
setInterval(() => { if (view instanceof SpendView && !document.hidden) refresh(); }, 5000);

const changes = new EventSource("/api/changes");
changes.onopen = () => setLive(true);
changes.onmessage = () => refresh();
changes.onerror = () => setLive(false);

show();
