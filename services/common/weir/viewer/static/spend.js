// What was spent on frontier models, what is left of the budgets, and what was saved against the frontier alone.

import { count, day, el, known, money, replayBadge, share, tierChip } from "/static/dom.js";

const SPANS = [["", "All time"], ["7", "7 days"], ["30", "30 days"]];
const CIRCUITS = ["closed", "open", "half_open"];
const AGAIN_MS = 1000;
const COLORS = 5;

export class SpendView {
  constructor(root) {
    const days = new URLSearchParams(location.search).get("days");
    this.days = SPANS.some(([value]) => value === days) ? days : "";
    this.tenant = "";
    this.next = 0;
    this.summary = el("section", { class: "summary" });
    this.filters = el("div", { class: "filters" });
    this.parts = el("div", { class: "parts" });
    root.replaceChildren(this.summary, this.filters, this.parts);
    document.title = "Weir spend";
  }

  // Spans arrive many times a second; the ledger is asked once.
  async refresh() {
    const wait = this.next - Date.now();
    if (wait > 0) {
      this.timer ??= setTimeout(() => { this.timer = undefined; this.load(); }, wait);
      return;
    }
    await this.load();
  }

  async load() {
    this.next = Date.now() + AGAIN_MS;
    const query = new URLSearchParams();
    if (this.days) query.set("days", this.days);
    const asked = query.toString();
    this.asked = asked;
    const response = await fetch(`/api/spend?${asked}`);
    const found = await response.json();
    // An answer to a choice that has changed since is out of date.
    if (this.asked !== asked) return;
    if (found.error) {
      this.summary.replaceChildren();
      this.filters.replaceChildren();
      this.shown = "";
      this.parts.replaceChildren(el("p", { class: "card empty" }, found.error));
      return;
    }
    this.draw(found);
  }

  draw(found) {
    const tenants = [...new Set([...found.spend, ...(found.savings ?? [])].map((row) => row.tenant))].sort();
    if (!tenants.includes(this.tenant)) this.tenant = "";
    const of = (rows) => (this.tenant === "" ? rows : rows.filter((row) => row.tenant === this.tenant));
    const spend = of(found.spend);
    const savings = found.savings === null ? null : of(found.savings);
    const budgets = found.budgets.filter((row) => ["", row.tenant].includes(this.tenant) || row.tenant === "*");
    this.summary.replaceChildren(...drawSummary(spend, budgets, savings));
    this.drawFilters(tenants, found);
    this.parts.replaceChildren(
      drawBudgets(budgets),
      this.days ? drawDays(spend, found.days) : "",
      drawSavings(savings),
      drawModels(found.models),
      drawSpend(spend));
  }

  choose(days) {
    this.days = days;
    history.replaceState(null, "", days ? `/spend?days=${days}` : "/spend");
    this.load();
  }

  drawFilters(tenants, found) {
    const names = tenants.filter((name) => name !== "");
    const shown = JSON.stringify([names, this.days, this.tenant]);
    this.found = found;
    // What is focused keeps the focus.
    if (this.shown === shown) return;
    this.shown = shown;
    this.filters.replaceChildren(
      segments("Time", SPANS, this.days, (value) => this.choose(value)),
      names.length > 0 ? segments("Tenant", [["", "All tenants"], ...names.map((name) => [name, name])], this.tenant,
        (value) => { this.tenant = value; this.draw(this.found); }) : "");
  }
}

function segments(label, choices, current, choose) {
  return el("div", { class: "segments", role: "group", "aria-label": label },
    choices.map(([value, name]) =>
      el("button", { type: "button", "aria-pressed": String(value === current), onclick: () => choose(value) }, name)));
}

function total(rows, field) {
  return rows.reduce((sum, row) => sum + row[field], 0);
}

function drawSummary(spend, budgets, savings) {
  const tile = (label, value, note = "") =>
    el("div", { class: "tile" }, el("div", { class: "label" }, label), el("div", { class: "value" }, value), el("div", { class: "note" }, note));
  const tightest = [...budgets].sort((a, b) => a.left_usd / (a.limit_usd || 1) - b.left_usd / (b.limit_usd || 1))[0];
  const attempts = total(spend, "attempts");
  const read = total(spend, "prompt_tokens");
  const alone = savings ? total(savings, "frontier_cost_usd") : 0;
  const saved = savings ? alone - total(savings, "cost_usd") : 0;
  return [
    tile("Spent", money(total(spend, "settled_usd")), `${count(attempts)} attempt${attempts === 1 ? "" : "s"}`),
    tile("Reserved", money(total(spend, "reserved_usd")), "for answers that run"),
    tile("Tokens", `${short(read)} → ${short(total(spend, "completion_tokens"))}`, read > 0 ? `${share(total(spend, "cached_prompt_tokens"), read)} of the input cached` : ""),
    tightest ? tile("Tightest budget", `${money(tightest.left_usd)} left`, `${budgetName(tightest)}, ${period(tightest)}`) : "",
    tile("Saved", alone > 0 ? `${Math.round((100 * saved) / alone)}%` : "–", savings === null ? "no receipts here" : alone > 0 ? `${signed(saved)} of ${money(alone)}, the frontier alone` : "no answers on record"),
  ];
}

function short(number) {
  return number.toLocaleString("en-US", { notation: "compact", maximumFractionDigits: 1 });
}

function signed(usd) {
  return usd < 0 ? `-${money(-usd)}` : money(usd);
}

function period(budget) {
  return budget.period === "total" ? "for good" : `per ${budget.period}`;
}

function budgetName(budget) {
  const who = budget.tenant === "*" ? "all tenants" : budget.tenant || "no tenant";
  return budget.model ? `${who}, ${budget.model}` : who;
}

function card(title, ...content) {
  return el("section", { class: "card part" }, el("h2", {}, title), ...content);
}

function table(heads, numeric, rows) {
  return el("div", { class: "scroll" }, el("table", { class: "requests" },
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { class: numeric.has(head) ? "number" : "", scope: "col" }, head)))),
    el("tbody", {}, rows)));
}

function drawBudgets(budgets) {
  if (budgets.length === 0) return "";
  return card("Budgets", budgets.map((budget) => {
    const used = budget.limit_usd > 0 ? Math.min(1, budget.committed_usd / budget.limit_usd) : 1;
    const fill = el("i", { class: used >= 1 ? "spent" : used >= 0.9 ? "near" : "" });
    fill.style.width = `${100 * used}%`;
    const resets = budget.resets_at === null ? "" : `, anew on ${day(budget.resets_at)} UTC`;
    return el("div", { class: "budget" },
      el("span", { class: "budget-name" }, budgetName(budget), el("span", { class: "dim" }, ` ${period(budget)}`)),
      el("span", { class: "budget-bar", role: "img", "aria-label": `${Math.round(100 * used)}% used` }, fill),
      el("span", { class: "budget-left" }, `${money(budget.committed_usd)} of ${money(budget.limit_usd)}; ${money(budget.left_usd)} left`,
        el("span", { class: "dim" }, resets)));
  }));
}

// A column for each day, stacked by model.
function drawDays(spend, days) {
  const models = [...new Set(spend.map((row) => row.model))].sort();
  const sums = days.map((name) => models.map((model) =>
    total(spend.filter((row) => row.day === name && row.model === model), "settled_usd")));
  const most = Math.max(...sums.map((parts) => parts.reduce((a, b) => a + b, 0)));
  if (!(most > 0)) return "";
  const columns = days.map((name, at) => {
    const whole = sums[at].reduce((a, b) => a + b, 0);
    const stack = el("span", { class: "day-stack" }, sums[at].map((usd, index) => {
      const part = el("i", { class: `hue-${index % COLORS}` });
      part.style.height = `${(100 * usd) / most}%`;
      return usd > 0 ? part : "";
    }));
    return el("div", { class: "day", title: `${name}: ${money(whole)}` }, stack, el("span", { class: "dim" }, name.slice(5)));
  });
  const legend = el("div", { class: "note legend" }, models.map((model, index) =>
    el("span", {}, el("i", { class: `dot hue-${index % COLORS}` }), model)));
  return card("By day", el("div", { class: "days" }, columns), legend);
}

function drawSpend(spend) {
  if (spend.length === 0) {
    return card("By tenant and model", el("p", { class: "empty" }, "Nothing was spent on frontier models."));
  }
  const heads = ["Day", "Tenant", "Model", "Provider", "Attempts", "Tokens in → out", "Cached", "Reasoning", "Spent", "Reserved"];
  const dated = spend.some((row) => row.day);
  const shown = dated ? heads : heads.slice(1);
  const rows = dated ? [...spend].sort((a, b) => b.day.localeCompare(a.day)) : spend;
  return card("By tenant and model", table(shown, new Set(heads.slice(4)), rows.map((row) =>
    el("tr", {},
      dated ? el("td", { class: "time" }, row.day) : "",
      el("td", {}, row.tenant || el("span", { class: "dim" }, "none")),
      el("td", { class: "model" }, row.model, row.replay ? replayBadge() : ""),
      el("td", {}, row.provider),
      el("td", { class: "number" }, count(row.attempts)),
      el("td", { class: "number" }, `${count(row.prompt_tokens)} → ${count(row.completion_tokens)}`),
      el("td", { class: "number dim" }, count(row.cached_prompt_tokens)),
      el("td", { class: "number dim" }, count(row.reasoning_tokens)),
      el("td", { class: "number" }, money(row.settled_usd)),
      el("td", { class: "number dim" }, money(row.reserved_usd))))));
}

function drawSavings(savings) {
  if (!savings || savings.length === 0) return "";
  const tiers = [...new Set(savings.map((row) => row.tier))];
  const heads = ["Answered by", "Answers", "Tokens out", "Cost", "Frontier alone", "Saved"];
  return card("Saved against the frontier alone", table(heads, new Set(heads.slice(1)), tiers.map((tier) => {
    const rows = savings.filter((row) => row.tier === tier);
    const cost = total(rows, "cost_usd");
    const alone = total(rows, "frontier_cost_usd");
    return el("tr", {},
      el("td", {}, tier ? tierChip(tier) : "–"),
      el("td", { class: "number" }, count(total(rows, "answers"))),
      el("td", { class: "number" }, count(total(rows, "completion_tokens"))),
      el("td", { class: "number" }, money(cost)),
      el("td", { class: "number dim" }, money(alone)),
      el("td", { class: "number" }, `${signed(alone - cost)}${alone > 0 ? ` (${Math.round(100 * (1 - cost / alone))}%)` : ""}`));
  })));
}

function drawModels(models) {
  const offered = models.filter((model) => model.available || model.circuit === "open");
  if (offered.length === 0) return "";
  const heads = ["Model", "Provider", "Circuit", "Input per million", "Output per million"];
  return card("Models on offer", table(heads, new Set(heads.slice(3)), offered.map((model) =>
    el("tr", {},
      el("td", { class: "model" }, model.model,
        model.stand_in ? el("span", { class: "badge" }, "stand-in") : "", model.replay ? replayBadge() : ""),
      el("td", {}, model.provider),
      el("td", {}, el("span", { class: `circuit ${known(model.circuit, CIRCUITS)}` }, (model.circuit || "–").replaceAll("_", " "))),
      el("td", { class: "number" }, money(model.input_usd_per_million)),
      el("td", { class: "number" }, money(model.output_usd_per_million))))));
}
