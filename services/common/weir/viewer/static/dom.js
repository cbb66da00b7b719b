// Elements and formats. Text goes in as text nodes alone: nothing here, or on this page, parses HTML.

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// A class-name-safe form of a known word; anything else becomes "other".
export function known(word, words) {
  return words.includes(word) ? word : "other";
}

export const TIERS = ["slm", "hybrid", "frontier"];
export const SERVICES = ["router", "slm_worker", "verifier", "frontier_proxy", "ask"];
export const TIER_NAMES = { slm: "SLM", hybrid: "Hybrid", frontier: "Frontier" };

export function tierChip(tier) {
  return tier ? el("span", { class: `chip tier-${known(tier, TIERS)}` }, TIER_NAMES[tier] ?? tier) : "";
}

export function replayBadge() {
  return el("span", { class: "badge", title: "Recorded answers were played" }, "replay");
}

export function outcomeChip(trace) {
  const outcome = known(trace.outcome, ["ok", "cancelled", "error"]);
  const text = outcome === "ok" ? "ok" : (trace.code || outcome).toLowerCase().replaceAll("_", " ");
  return el("span", { class: `outcome ${outcome}` }, text);
}

export function duration(nanoseconds) {
  const ms = nanoseconds / 1e6;
  if (ms === 0) return "0";
  if (ms < 0.9995) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(2)} s` : `${(ms / 60_000).toFixed(1)} min`;
}

export function money(usd) {
  if (usd === null || usd === undefined) return "–";
  if (usd === 0) return "$0";
  return usd >= 1 ? `$${usd.toFixed(2)}` : `$${Number(usd.toPrecision(2)).toFixed(6).replace(/0+$/, "")}`;
}

export function count(number) {
  return number === null || number === undefined ? "–" : number.toLocaleString("en-US");
}

// A part of a whole, above 0, as a percentage; one that is not nothing never shows as such.
export function share(part, whole) {
  const percent = (100 * part) / whole;
  return percent > 0 && percent < 0.5 ? "<1%" : `${Math.round(percent)}%`;
}

export function clock(nanoseconds) {
  const at = new Date(nanoseconds / 1e6);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

// The day of a moment in seconds, in UTC.
export function day(seconds) {
  return new Date(1000 * seconds).toISOString().slice(0, 10);
}

export function reasonText(code) {
  return code.replaceAll("_", " ");
}
