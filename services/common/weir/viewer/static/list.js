// The list of recent requests, with what all kept ones came to.

import { clock, count, duration, el, known, money, outcomeChip, reasonText, replayBadge, TIER_NAMES, TIERS, tierChip } from "/static/dom.js";

const OUTCOMES = { "": "All", ok: "Ok", cancelled: "Cancelled", error: "Failed" };
const PAGE = 100;
const MOST = 500;

export class ListView {
  constructor(root) {
    this.root = root;
    this.tier = "";
    this.outcome = "";
    this.limit = PAGE;
    this.summary = el("section", { class: "summary" });
    this.filters = el("div", { class: "filters" });
    this.table = el("div", { class: "card" });
    this.drawFilters();
    root.replaceChildren(this.summary, this.filters, this.table);
    document.title = "Weir traces";
  }

  async refresh() {
    const query = new URLSearchParams({ limit: this.limit });
    if (this.tier) query.set("tier", this.tier);
    if (this.outcome) query.set("outcome", this.outcome);
    const asked = query.toString();
    this.asked = asked;
    const response = await fetch(`/api/traces?${asked}`);
    const found = await response.json();
    // An answer to a filter that has changed since is out of date.
    if (this.asked !== asked) return;
    this.summary.replaceChildren(...drawSummary(found.totals));
    this.drawTable(found.traces);
  }

  drawFilters() {
    const group = (label, choices, current, choose) =>
      el("div", { class: "segments", role: "group", "aria-label": label },
        Object.entries(choices).map(([value, name]) =>
          el("button", { type: "button", "aria-pressed": String(value === current), onclick: () => choose(value) }, name)));
    const change = (field) => (value) => {
      this[field] = value;
      this.limit = PAGE;
      this.drawFilters();
      this.refresh();
    };
    this.filters.replaceChildren(
      group("Tier", { "": "All tiers", ...TIER_NAMES }, this.tier, change("tier")),
      group("Outcome", OUTCOMES, this.outcome, change("outcome")));
  }

  drawTable(traces) {
    if (traces.length === 0) {
      this.table.replaceChildren(this.drawEmpty());
      return;
    }
    const focused = document.activeElement?.getAttribute("href");
    const heads = ["Time", "Tier", "Model", "Why", "Tokens in → out", "Cost", "Frontier alone", "Duration", "Outcome"];
    const numeric = new Set(["Tokens in → out", "Cost", "Frontier alone", "Duration"]);
    const table = el("table", { class: "requests" },
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { class: numeric.has(head) ? "number" : "" , scope: "col" }, head)))),
      el("tbody", {}, traces.map(drawRow)));
    const more = traces.length >= this.limit && this.limit < MOST
      ? el("button", { type: "button", class: "more", onclick: () => { this.limit = MOST; this.refresh(); } }, "Show more")
      : "";
    this.table.replaceChildren(el("div", { class: "scroll" }, table), more);
    if (focused) this.table.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  }

  drawEmpty() {
    if (this.tier || this.outcome) return el("p", { class: "empty" }, "No request matches these filters.");
    return el("p", { class: "empty" }, "No request yet. Send one: ", el("code", {}, 'uv run weir ask "Why is the sky blue?"'));
  }
}

function drawRow(trace) {
  const answered = trace.tier !== "";
  return el("tr", { class: trace.outcome === "error" ? "failed" : "" },
    el("td", { class: "time" }, el("a", { href: `/trace/${trace.trace_id}` }, clock(trace.start_ns))),
    el("td", {}, answered ? tierChip(trace.tier) : el("span", { class: "dim" }, "–")),
    el("td", { class: "model" },
      answered ? trace.model : el("span", { class: "dim" }, trace.name),
      trace.stand_in ? el("span", { class: "badge", title: "A local stand-in answered for a model that is not configured" }, "stand-in") : "",
      trace.replay ? replayBadge() : ""),
    el("td", { class: "why" }, trace.reason ? reasonText(trace.reason) : el("span", { class: "dim" }, "–")),
    el("td", { class: "number" }, trace.output_tokens === null ? el("span", { class: "dim" }, "–") : `${count(trace.input_tokens)} → ${count(trace.output_tokens)}`),
    el("td", { class: "number" }, money(trace.cost_usd)),
    el("td", { class: "number dim" }, money(trace.frontier_cost_usd)),
    el("td", { class: "number" }, duration(trace.duration_ns)),
    el("td", {}, outcomeChip(trace)));
}

function drawSummary(totals) {
  const sum = (field) => totals.reduce((total, row) => total + row[field], 0);
  const requests = sum("requests");
  if (requests === 0) return [];
  const cost = sum("cost_usd");
  const alone = sum("frontier_cost_usd");
  const local = totals.filter((row) => row.tier !== "frontier").reduce((total, row) => total + row.requests, 0);
  const tile = (label, value, note = "") =>
    el("div", { class: "tile" }, el("div", { class: "label" }, label), el("div", { class: "value" }, value), el("div", { class: "note" }, note));
  const ordered = TIERS.map((tier) => totals.find((row) => row.tier === tier)).filter(Boolean);
  const bar = el("div", { class: "shares", role: "img", "aria-label": ordered.map((row) => `${row.tier} ${row.requests}`).join(", ") },
    ordered.map((row) => {
      const part = el("div", { class: `share tier-${known(row.tier, TIERS)}`, title: `${TIER_NAMES[row.tier]}: ${count(row.requests)}` });
      part.style.flexGrow = row.requests;
      return part;
    }));
  const legend = el("div", { class: "note legend" }, ordered.map((row) =>
    el("span", {}, el("i", { class: `dot tier-${known(row.tier, TIERS)}` }), `${TIER_NAMES[row.tier]} ${Math.round((100 * row.requests) / requests)}%`)));
  return [
    tile("Requests", count(requests), `${count(sum("output_tokens"))} tokens`),
    tile("Stayed local", `${Math.round((100 * local) / requests)}%`, `${count(local)} of ${count(requests)}`),
    tile("Cost", money(cost), alone > 0 ? `frontier alone: ${money(alone)}` : ""),
    tile("Saved", alone > 0 ? `${Math.round(100 * (1 - cost / alone))}%` : "–", alone > 0 ? money(alone - cost) : ""),
    el("div", { class: "tile wide" }, el("div", { class: "label" }, "Tiers"), bar, legend),
  ];
}
