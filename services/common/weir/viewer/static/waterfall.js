// One request: its facts, and its spans as a waterfall across the services.

import { clock, count, duration, el, known, money, outcomeChip, reasonText, SERVICES, tierChip } from "/static/dom.js";
import { drawVerification } from "/static/verification.js";

const SERVICE_NAMES = { slm_worker: "slm worker", frontier_proxy: "frontier proxy" };
const TICKS = 5;

export class TraceView {
  constructor(root, traceId) {
    this.root = root;
    this.traceId = traceId;
    this.open = new Set();
    document.title = `Trace ${traceId.slice(0, 8)} · Weir`;
  }

  async refresh() {
    const response = await fetch(`/api/traces/${encodeURIComponent(this.traceId)}`);
    const found = await response.json();
    if (!response.ok) {
      this.root.replaceChildren(back(), el("p", { class: "card empty" }, `Waiting for this trace: ${found.error}.`));
      return;
    }
    this.found = found;
    this.draw();
  }

  draw() {
    const { trace, spans } = this.found;
    const rows = order(spans);
    const start = Math.min(...spans.map((span) => span.start_ns));
    const end = Math.max(...spans.map((span) => span.end_ns));
    const scale = { start, length: Math.max(end - start, 1) };
    const used = SERVICES.filter((service) => spans.some((span) => span.service === service));
    this.root.replaceChildren(
      back(),
      drawHead(trace, this.traceId),
      drawFacts(trace, spans),
      ...drawVerification(spans),
      el("section", { class: "card" },
        el("div", { class: "services" }, used.map((service) =>
          el("span", {}, el("i", { class: `dot service-${service}` }), SERVICE_NAMES[service] ?? service))),
        el("div", { class: "waterfall" }, drawAxis(scale.length), rows.map((row) => this.drawSpan(row, scale)))));
  }

  drawSpan({ span, depth }, scale) {
    const service = known(span.service, SERVICES);
    const left = (100 * (span.start_ns - scale.start)) / scale.length;
    const width = (100 * (span.end_ns - span.start_ns)) / scale.length;
    const bar = el("span", { class: `bar service-${service}${span.status === "error" ? " failed" : ""}` });
    bar.style.left = `${left}%`;
    bar.style.width = `max(2px, ${width}%)`;
    const time = el("span", { class: "length" }, duration(span.end_ns - span.start_ns));
    // The label stands where there is room: right of the bar, else left of it, else on it.
    if (left + width < 86) time.style.left = `calc(${left + width}% + 6px)`;
    else if (left > 14) time.style.right = `calc(${100 - left}% + 6px)`;
    else { time.style.right = "6px"; time.classList.add("on"); }
    const ticks = span.events.filter((event) => event.name !== "verify.rounds").map((event) => {
      const tick = el("i", { class: `tick${event.name === "exception" ? " failed" : ""}`, title: `${event.name} at ${duration(event.at_ns - scale.start)}` });
      tick.style.left = `${Math.min(100, Math.max(0, (100 * (event.at_ns - scale.start)) / scale.length))}%`;
      return tick;
    });
    const name = el("span", { class: "name" }, el("i", { class: `dot service-${service}` }), el("span", { class: "text", title: `${span.service}: ${span.name}` }, `${span.kind === "client" ? "→ " : ""}${short(span.name)}`));
    name.style.paddingLeft = `${Math.min(depth, 12) * 16}px`;
    const isOpen = this.open.has(span.span_id);
    const toggle = () => {
      if (!this.open.delete(span.span_id)) this.open.add(span.span_id);
      this.draw();
      this.root.querySelector(`[data-span="${CSS.escape(span.span_id)}"]`)?.focus();
    };
    const row = el("button", { type: "button", class: `span${span.status === "error" ? " failed" : ""}`, "aria-expanded": String(isOpen), "data-span": span.span_id, onclick: toggle },
      name, el("span", { class: "track" }, bar, ticks, time));
    return isOpen ? [row, drawDetails(span, scale)] : [row];
  }
}

// Depth first by start time. Spans whose parent is not here, or is their own descendant, count as roots.
function order(spans) {
  const present = new Set(spans.map((span) => span.span_id));
  const children = Map.groupBy(spans, (span) => (present.has(span.parent_id) ? span.parent_id : ""));
  const rows = [];
  const seen = new Set();
  const visit = (first) => {
    const stack = [{ span: first, depth: 0 }];
    while (stack.length > 0) {
      const row = stack.pop();
      if (seen.has(row.span.span_id)) continue;
      seen.add(row.span.span_id);
      rows.push(row);
      for (const child of (children.get(row.span.span_id) ?? []).toReversed()) stack.push({ span: child, depth: row.depth + 1 });
    }
  };
  (children.get("") ?? []).forEach(visit);
  spans.filter((span) => !seen.has(span.span_id)).forEach(visit);
  return rows;
}

function back() {
  return el("a", { class: "back", href: "/" }, "← All requests");
}

function short(name) {
  return name.replace(/^weir\.v1\./, "").replace(/Service\//, " · ");
}

function drawHead(trace, traceId) {
  return el("div", { class: "head" },
    el("h1", {}, short(trace.name)), tierChip(trace.tier), outcomeChip(trace),
    el("span", { class: "dim id" }, traceId));
}

function drawFacts(trace, spans) {
  const told = spans.find((span) => span.name === trace.name && span.start_ns === trace.start_ns)?.attributes ?? {};
  const complexity = told["weir.complexity"];
  const threshold = told["weir.complexity_threshold"];
  const reasons = [told["weir.reasons"] ?? []].flat();
  const exclusions = [told["weir.exclusions"] ?? []].flat();
  const fact = (label, value, note = "") =>
    el("div", { class: label === "Model" ? "tile model" : "tile" }, el("div", { class: "label" }, label), el("div", { class: "value small" }, value), el("div", { class: "note" }, note));
  const chips = (codes, kind) => codes.map((code) => el("span", { class: `chip ${kind}` }, reasonText(String(code))));
  return el("section", { class: "summary facts" },
    fact("Model", trace.model || "–", trace.stand_in ? "a stand-in: none is configured" : trace.replay ? "a replay: recorded answers" : ""),
    fact("Tokens", trace.output_tokens === null ? "–" : `${count(trace.input_tokens)} → ${count(trace.output_tokens)}`, "in → out"),
    fact("Cost", money(trace.cost_usd), trace.frontier_cost_usd ? `frontier alone: ${money(trace.frontier_cost_usd)}` : ""),
    fact("Duration", duration(trace.duration_ns), clock(trace.start_ns)),
    typeof complexity === "number" ? fact("Complexity", complexity.toFixed(2), typeof threshold === "number" ? `threshold ${threshold.toFixed(2)}` : "") : "",
    reasons.length > 0 ? el("div", { class: "tile wide" }, el("div", { class: "label" }, "Why"), el("div", { class: "chips" }, chips(reasons, "reason"), chips(exclusions, "excluded"))) : "");
}

function drawAxis(length) {
  const marks = Array.from({ length: TICKS }, (_, index) => {
    const mark = el("span", {}, duration((length * index) / (TICKS - 1)));
    mark.style.left = `${(100 * index) / (TICKS - 1)}%`;
    if (index === TICKS - 1) mark.className = "last";
    return mark;
  });
  return el("div", { class: "axis" }, el("span", { class: "name" }), el("span", { class: "track" }, marks));
}

function drawDetails(span, scale) {
  const table = (entries) => el("dl", {}, entries.map(([key, value]) => [el("dt", {}, key), el("dd", {}, plain(value))]).flat());
  const facts = [["service", span.service], ["kind", span.kind], ["starts at", duration(span.start_ns - scale.start)]];
  const events = span.events.map((event) =>
    el("div", { class: `event${event.name === "exception" ? " failed" : ""}` },
      el("div", {}, el("b", {}, event.name), ` at ${duration(event.at_ns - scale.start)}`), table(Object.entries(event.attributes))));
  return el("div", { class: "details" },
    span.status === "error" ? el("p", { class: "failure" }, span.message || "This span ended with an error.") : "",
    table([...facts, ...Object.entries(span.attributes)]),
    events.length > 0 ? el("h2", {}, "Events") : "", events);
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
}
