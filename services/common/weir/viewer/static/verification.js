// A verified answer: who wrote each of its tokens, its rounds, and where drafts stood. Counts and times, no text.

import { count, duration, el, share } from "/static/dom.js";

const MOST_CELLS = 1_500;
const MOST_COLUMNS = 240;
const TOKENS_HEIGHT = 84;
const TIMES_HEIGHT = 56;
const SOURCES = ["draft", "verifier", "frontier"];
const PARTS = { draft_us: "draft", verify_us: "verify", wait_us: "wait" };
const PART_NAMES = { draft: "drafting", verify: "verification", wait: "waiting for drafts" };

// The cards of a trace: one for each span that tells of rounds.
export function drawVerification(spans) {
  return spans.map(read).filter((answer) => answer.rounds.length > 0).map(drawCard);
}

function read(span) {
  const told = span.attributes;
  const rounds = span.events.filter((event) => event.name === "verify.rounds").flatMap((event) => readRounds(event.attributes));
  const counted = numbers(told["weir.verify.tokens_by_source"]);
  const drafted = sum(rounds, "accepted");
  const bySource = counted.length === SOURCES.length ? counted : [drafted, sum(rounds, "produced") - drafted, 0];
  return {
    rounds, bySource,
    total: Math.max(number(told["weir.verify.rounds"]), rounds.length),
    passes: number(told["weir.verify.passes"]) || rounds.length,
    level: typeof told["weir.verify.level"] === "string" ? told["weir.verify.level"] : "",
    judged: numbers(told["weir.verify.judged_by_position"]),
    accepted: numbers(told["weir.verify.accepted_by_position"]),
  };
}

function readRounds(attributes) {
  const list = (name) => numbers(attributes[`weir.rounds.${name}`]);
  const lists = { drafted: list("drafted"), accepted: list("accepted"), produced: list("produced"), draft_us: list("draft_us"), verify_us: list("verify_us"), wait_us: list("wait_us") };
  const methods = Array.isArray(attributes["weir.rounds.method"]) ? attributes["weir.rounds.method"] : [];
  return lists.drafted.map((_, index) => {
    const round = { method: String(methods[index] ?? "") };
    for (const [name, values] of Object.entries(lists)) round[name] = values[index] ?? 0;
    return round;
  });
}

function drawCard(answer) {
  const { rounds, bySource } = answer;
  const drafted = sum(rounds, "drafted");
  const local = bySource[0] + bySource[1];
  const saved = Math.max(0, local - answer.passes);
  const times = Object.entries(PARTS).map(([name, part]) => [part, sum(rounds, name) * 1000]);
  const fact = (label, value, note = "") => el("div", {}, el("div", { class: "label" }, label), el("div", { class: "value small" }, value), el("div", { class: "note" }, note));
  return el("section", { class: "card verification" },
    el("h2", {}, "Verification", answer.level ? el("span", { class: "chip" }, `by ${answer.level}`) : ""),
    el("div", { class: "verification-facts" },
      fact("Drafts that stood", drafted ? share(sum(rounds, "accepted"), drafted) : "–", drafted ? `${count(sum(rounds, "accepted"))} of ${count(drafted)}` : "nothing was drafted"),
      fact("Tokens a pass", answer.passes ? (local / answer.passes).toFixed(1) : "–", `${count(answer.total)} rounds, ${count(answer.passes)} passes`),
      fact("Passes saved", count(saved), "against one for each token"),
      ...times.map(([part, time]) => fact(`Time: ${PART_NAMES[part]}`, duration(time), `${duration(time / rounds.length)} a round`))),
    drawTokens(answer), drawRounds(rounds), drawPositions(answer));
}

function drawTokens({ rounds, bySource }) {
  const runs = rounds.flatMap((round) => [["draft", round.accepted], ["verifier", round.produced - round.accepted]]);
  runs.push(["frontier", bySource[2]]);
  const cells = [];
  for (const [source, length] of runs) {
    for (let index = 0; index < length && cells.length < MOST_CELLS; index += 1) cells.push(el("i", { class: `cell source-${source}` }));
  }
  const all = bySource.reduce((total, tokens) => total + tokens, 0);
  const legend = SOURCES.flatMap((source, index) => bySource[index] > 0
    ? [el("span", {}, el("i", { class: `cell source-${source}` }), `${source} ${share(bySource[index], all)}`, el("span", { class: "dim" }, count(bySource[index])))] : []);
  const told = SOURCES.map((source, index) => `${source} ${bySource[index]}`).join(", ");
  return el("div", { class: "block" },
    el("h3", {}, "Tokens of the answer by who wrote them"),
    el("div", { class: "legend" }, legend),
    el("div", { class: "cells", role: "img", "aria-label": `Tokens: ${told}` }, cells),
    all > cells.length ? el("div", { class: "note" }, `and ${count(all - cells.length)} more`) : "");
}

// Many rounds share a column, which then shows their mean.
function drawRounds(rounds) {
  const each = Math.ceil(rounds.length / MOST_COLUMNS);
  const columns = Array.from({ length: Math.ceil(rounds.length / each) }, (_, index) => summarize(rounds.slice(index * each, (index + 1) * each), index * each));
  const tokens = Math.max(1, ...columns.map((column) => Math.max(column.drafted, column.produced)));
  const time = Math.max(1, ...columns.map((column) => column.draft_us + column.verify_us + column.wait_us));
  const block = (kind, value, scale) => {
    if (value <= 0) return "";
    const part = el("i", { class: kind });
    part.style.height = `${value * scale}px`;
    return part;
  };
  const drawn = columns.map((column) =>
    el("div", { class: `round method-${column.method === "lookup" ? "lookup" : "other"}`, title: column.title },
      el("div", { class: "round-tokens" },
        block("rejected", column.drafted - column.accepted, TOKENS_HEIGHT / tokens),
        block("source-verifier", column.produced - column.accepted, TOKENS_HEIGHT / tokens),
        block("source-draft", column.accepted, TOKENS_HEIGHT / tokens)),
      el("div", { class: "round-times" }, Object.entries(PARTS).map(([name, part]) => block(`part-${part}`, column[name], TIMES_HEIGHT / time)))));
  const entry = (kind, text) => el("span", {}, el("i", { class: `cell ${kind}` }), text);
  return el("div", { class: "block" },
    el("h3", {}, each > 1 ? `Rounds, ${each} to a column` : "Rounds", el("span", { class: "dim" }, ` up: tokens, at most ${Math.ceil(tokens)}; down: time, at most ${duration(time * 1000)}`)),
    el("div", { class: "legend" }, entry("source-draft", "stood"), columns.some((column) => column.method === "lookup") ? entry("source-draft lookup", "stood, from lookup") : "", entry("source-verifier", "the verifier's own"), entry("rejected", "did not stand"),
      entry("part-draft", "drafting"), entry("part-verify", "verification"), entry("part-wait", "waiting")),
    el("div", { class: "rounds", role: "img", "aria-label": `${rounds.length} rounds` }, drawn));
}

function summarize(rounds, from) {
  const mean = (name) => sum(rounds, name) / rounds.length;
  const column = { method: rounds[0].method };
  for (const name of ["drafted", "accepted", "produced", ...Object.keys(PARTS)]) column[name] = mean(name);
  const where = rounds.length > 1 ? `Rounds ${from + 1} to ${from + rounds.length}, on average` : `Round ${from + 1} (${column.method})`;
  const times = Object.entries(PARTS).map(([name, part]) => `${PART_NAMES[part]} ${duration(column[name] * 1000)}`);
  column.title = `${where}: ${plain(column.drafted)} drafted, ${plain(column.accepted)} stood, ${plain(column.produced)} written; ${times.join(", ")}`;
  return column;
}

function drawPositions({ judged, accepted }) {
  const bars = judged.flatMap((total, index) => {
    if (total === 0) return [];
    const stood = Math.min(accepted[index] ?? 0, total);
    const fill = el("i", {});
    fill.style.height = `${(100 * stood) / total}%`;
    return [el("div", { class: "position", title: `Position ${index + 1}: ${count(stood)} of ${count(total)} stood` },
      el("span", { class: "position-share" }, share(stood, total)), el("span", { class: "position-bar" }, fill), el("span", { class: "dim" }, index + 1))];
  });
  if (bars.length === 0) return "";
  return el("div", { class: "block" }, el("h3", {}, "Share of drafts that stood, by position in their chunk"), el("div", { class: "positions" }, bars));
}

function plain(value) {
  return Number.isInteger(value) ? String(value) : value.toFixed(1);
}

function number(value) {
  return typeof value === "number" && Number.isFinite(value) && value > 0 ? value : 0;
}

function numbers(value) {
  return Array.isArray(value) ? value.map(number) : [];
}

function sum(rounds, name) {
  return rounds.reduce((total, round) => total + round[name], 0);
}
