// Plots of the page's own data, drawn by Observable Plot.
"use strict";

const given = JSON.parse(document.getElementById("data").textContent);
const style = getComputedStyle(document.documentElement), mark = style.getPropertyValue("--mark").trim();

/** The entries that none is both cheaper and better than, the cheapest first. */
function front(rows, cost, higher) {
  const found = [];
  for (const row of rows.toSorted((a, b) => a[cost] - b[cost] || (higher ? b.score - a.score : a.score - b.score)))
    if (!found.length || (higher ? row.score > found.at(-1).score : row.score < found.at(-1).score)) found.push(row);
  return found;
}

/** The scores of the better ones fill the plot; hopeless ones do not press them together. */
function reach(board, higher) {
  const scores = board.map(row => row.score).sort((a, b) => higher ? b - a : a - b), best = scores[0];
  const far = 4 * Math.abs(scores[Math.floor((scores.length - 1) / 2)] - best) || Math.abs(best) || 1;
  const inside = board.filter(row => Math.abs(row.score - best) <= far);
  const low = Math.min(...inside.map(row => row.low ?? row.score)), high = Math.max(...inside.map(row => row.high ?? row.score));
  const margin = 0.03 * (high - low) || 0.01;
  return [low - margin, high + margin];
}

/** A plot as wide as its place is, so that its text is never shrunk. */
let width = 600;
const plot = options => Plot.plot({ width, style: { fontSize: "12px" }, ...options });
const left = rows => 16 + 7 * Math.min(Math.max(...rows.map(row => row.name.length)), 28);
const line = { grid: true, nice: true };

const drawn = {
  intervals: d => plot({
    ariaLabel: "scores with their intervals", height: 20 * d.board.length + 60, marginLeft: left(d.board), marginRight: 20,
    x: { label: d.metric, grid: true, domain: reach(d.board, d.higher), clamp: true }, y: { domain: d.board.map(row => row.name), label: null },
    marks: [
      Plot.ruleY(d.board, { y: "name", x1: "low", x2: "high", stroke: mark, strokeWidth: 4, strokeOpacity: 0.35 }),
      Plot.dot(d.board, { y: "name", x: "score", fill: mark, tip: true }),
    ],
  }),
  cost: (d, cost = Object.keys(d.costs)[0]) => {
    const rows = d.board.filter(row => row[cost] > 0), best = front(rows, cost, d.higher);
    return plot({
      ariaLabel: `score against ${d.costs[cost]}`, marginLeft: 60, marginRight: 60, marginTop: 30,
      x: { type: "log", label: d.costs[cost], grid: true }, y: { label: d.metric, grid: true, domain: reach(d.board, d.higher), clamp: true },
      marks: [
        Plot.line(best, { x: cost, y: "score", stroke: mark, strokeOpacity: 0.5 }),
        Plot.dot(rows, { x: cost, y: "score", fill: mark, title: "name", tip: true, channels: { entry: "name" } }),
        Plot.text(best, { x: cost, y: "score", text: "name", dy: -9, lineAnchor: "bottom" }),
      ],
    });
  },
  effort: d => {
    const value = d.effort.map(row => ({ ...row, low: row.score, high: row.score }));
    return plot({
      ariaLabel: "best validation score against trials", marginLeft: 60, marginRight: 90,
      x: { label: "trials", ...line }, y: { label: `validation ${d.metric}`, grid: true, domain: reach(value, d.higher), clamp: true },
      marks: [
        Plot.line(d.effort, { x: "trials", y: "score", stroke: "name", curve: "step-after", tip: true }),
        Plot.text(d.effort, Plot.selectLast({ x: "trials", y: "score", z: "name", text: "name", textAnchor: "start", dx: 4 })),
      ],
    });
  },
  curve: d => plot({
    ariaLabel: "losses while it trained", marginLeft: 60, x: { label: "report", ...line }, y: { label: "loss", ...line }, color: { legend: true },
    marks: [Plot.line(d.curve, { x: "step", y: "loss", stroke: "seed", tip: true })],
  }),
  search: d => plot({
    ariaLabel: "trials of the search", marginLeft: 60, x: { label: "trial", ...line }, y: { label: `validation ${d.metric}`, ...line },
    symbol: { legend: true },
    marks: [
      Plot.line(d.best, { x: "number", y: "value", curve: "step-after", stroke: mark, strokeOpacity: 0.6 }),
      Plot.dot(d.trials.filter(trial => trial.value !== null), { x: "number", y: "value", symbol: "status", fill: mark, fillOpacity: 0.6, tip: true, channels: { params: "params" } }),
      Plot.ruleX(d.trials.filter(trial => trial.value === null), { x: "number", strokeOpacity: 0.15 }),
    ],
  }),
  importance: d => plot({
    ariaLabel: "importance of hyperparameters", height: 24 * d.importance.length + 50, marginLeft: left(d.importance),
    x: { label: "share", grid: true, percent: true }, y: { domain: d.importance.map(row => row.name), label: null },
    marks: [Plot.barX(d.importance, { y: "name", x: "share", fill: mark, tip: true })],
  }),
  gap: d => plot({
    ariaLabel: "difference with its interval", height: 110, x: { label: `difference in ${d.metric}`, ...line }, y: { axis: null },
    marks: [
      Plot.ruleX([0]), Plot.ruleY([d.gap], { y: "name", x1: "low", x2: "high", stroke: mark, strokeWidth: 4, strokeOpacity: 0.35 }),
      Plot.dot([d.gap], { y: "name", x: "gap", fill: mark, r: 5 }), Plot.text([d.gap], { y: "name", x: "gap", text: "name", dy: -14 }),
    ],
  }),
  samples: d => plot({
    ariaLabel: "samples that one of the two is better on", height: 140, marginLeft: left(d.samples),
    x: { label: "hidden samples", grid: true }, y: { domain: d.samples.map(row => row.name), label: null },
    marks: [Plot.barX(d.samples, { y: "name", x: "count", fill: mark, tip: true })],
  }),
  ranks: d => plot({
    ariaLabel: "critical-difference diagram", height: 20 * d.ranks.length + 60, marginLeft: left(d.ranks),
    x: { label: "mean rank", grid: true }, y: { domain: d.ranks.map(row => row.name), label: null },
    marks: [
      Plot.ruleY(d.ranks, { y: "name", x1: "low", x2: "high", stroke: mark, strokeWidth: 4, strokeOpacity: 0.35 }),
      Plot.dot(d.ranks, { y: "name", x: "rank", fill: mark, tip: true }),
    ],
  }),
  profiles: d => plot({
    ariaLabel: "performance profiles", marginRight: 90, x: { label: "at most so far behind the best", grid: true }, y: { label: "share of tasks", grid: true, percent: true },
    marks: [
      Plot.line(d.profiles, { x: "within", y: "share", stroke: "name", curve: "step-after", tip: true }),
      Plot.text(d.profiles, Plot.selectLast({ x: "within", y: "share", z: "name", text: "name", textAnchor: "start", dx: 4 })),
    ],
  }),
};

function draw(figure, ...choice) {
  width = Math.max(280, Math.min(figure.clientWidth, 720));
  const made = drawn[figure.dataset.plot](figure.dataset.of ? given[figure.dataset.of] : given, ...choice);
  for (const svg of made.tagName === "svg" ? [made] : made.querySelectorAll(":scope > svg")) svg.setAttribute("role", "img");
  figure.querySelector(":scope > .drawn")?.remove();
  made.classList.add("drawn");
  figure.prepend(made);
}

for (const figure of document.querySelectorAll("figure[data-plot]")) {
  draw(figure);
  figure.querySelector("select")?.addEventListener("change", event => draw(figure, event.target.value));
}
