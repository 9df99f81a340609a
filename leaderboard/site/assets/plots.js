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

/** The scores that a plot shows, [lowest, highest]: hopeless ones do not press the others together. As `whiskers` in look.py. */
function reach(board, higher) {
  const scores = board.map(row => row.score).sort((a, b) => higher ? b - a : a - b), best = scores[0];
  const far = 3 * Math.abs(scores[Math.ceil(0.6 * (scores.length - 1))] - best) || Math.abs(best) || 1;
  const inside = board.filter(row => Math.abs(row.score - best) <= far);
  const low = Math.min(...inside.map(row => row.low ?? row.score)), high = Math.max(...inside.map(row => row.high ?? row.score));
  const margin = 0.03 * (high - low) || 0.01;
  return [low - margin, high + margin];
}

/** Rows with whether their scores lie beyond what is shown, on which side, and where on the edge. */
const placed = (rows, [low, high]) => rows.map(row => ({
  ...row, beyond: row.score < low || row.score > high, edge: Math.min(Math.max(row.score, low), high),
}));

/** A plot as wide as its place is, so that its text is never shrunk. */
let width = 600;
const plot = options => Plot.plot({ width, height: 300, marginBottom: 44, style: { fontSize: "12px" }, ...options });
const whole = rows => d3.ticks(1, Math.max(...rows, 2), 8).filter(Number.isInteger);
const left = rows => 16 + 7 * Math.min(Math.max(...rows.map(row => row.name.length)), 28);
const line = { grid: true, nice: true };

const drawn = {
  intervals: d => {
    const domain = reach(d.board, d.higher), rows = placed(d.board, domain), inside = rows.filter(row => !row.beyond);
    return plot({
      ariaLabel: "scores with their intervals", height: 20 * rows.length + 64, marginLeft: left(rows), marginRight: 20,
      x: { label: d.metric, grid: true, domain, clamp: true }, y: { domain: rows.map(row => row.name), label: null },
      marks: [
        Plot.ruleY(inside, { y: "name", x1: "low", x2: "high", stroke: mark, strokeWidth: 4, strokeOpacity: 0.35 }),
        Plot.dot(inside, { y: "name", x: "score", fill: mark, tip: true }),
        Plot.text(rows.filter(row => row.beyond), {
          y: "name", x: "edge", text: row => row.score < domain[0] ? `‹ ${row.score.toPrecision(4)}` : `${row.score.toPrecision(4)} ›`,
          dx: d.higher ? 26 : -26,
        }),
      ],
    });
  },
  cost: (d, cost = Object.keys(d.costs)[0]) => {
    const domain = reach(d.board, d.higher), rows = placed(d.board.filter(row => row[cost] > 0), domain);
    const best = front(rows, cost, d.higher), inside = best.filter(row => !row.beyond);
    return plot({
      ariaLabel: `score against ${d.costs[cost]}`, marginLeft: 60, marginRight: 60, marginTop: 30,
      x: { type: "log", label: d.costs[cost], grid: true }, y: { label: d.metric, grid: true, domain },
      marks: [
        Plot.line(best, { x: cost, y: "edge", stroke: mark, strokeOpacity: 0.5 }),
        Plot.dot(rows.filter(row => !row.beyond), { x: cost, y: "score", fill: mark, title: "name", tip: true }),
        Plot.dot(rows.filter(row => row.beyond), { x: cost, y: "edge", stroke: mark, title: row => `${row.name}, ${row.score.toPrecision(4)}, beyond what is shown`, tip: true }),
        Plot.text(inside, { x: cost, y: "score", text: "name", dy: -9, lineAnchor: "bottom" }),
      ],
    });
  },
  effort: d => plot({
    ariaLabel: "best validation score against trials", marginLeft: 60, color: { legend: true },
    x: { label: "trials", grid: true, ticks: whole(d.effort.map(row => row.trials)), tickFormat: "d" },
    y: { label: `validation ${d.metric}`, grid: true, domain: reach(d.effort, d.higher), clamp: true },
    marks: [Plot.line(d.effort, { x: "trials", y: "score", stroke: "name", curve: "step-after", tip: true })],
  }),
  curve: d => plot({
    ariaLabel: "losses while it trained", marginLeft: 60, x: { label: "report", grid: true, ticks: whole(d.curve.map(row => row.step)), tickFormat: "d" }, y: { label: "loss", ...line }, color: { legend: true },
    marks: [Plot.line(d.curve, { x: "step", y: "loss", stroke: "seed", tip: true })],
  }),
  search: d => plot({
    ariaLabel: "trials of the search", marginLeft: 60, x: { label: "trial", grid: true, ticks: whole(d.trials.map(row => row.number)), tickFormat: "d" }, y: { label: `validation ${d.metric}`, ...line },
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
    ariaLabel: "performance profiles", color: { legend: true },
    x: { label: "at most so far behind the best", grid: true }, y: { label: "share of tasks, %", grid: true, percent: true },
    marks: [Plot.line(d.profiles, { x: "within", y: "share", stroke: "name", curve: "step-after", tip: true })],
  }),
};

function draw(figure, ...choice) {
  width = Math.max(280, Math.min(figure.clientWidth, 720));
  const made = drawn[figure.dataset.plot](figure.dataset.of ? given[figure.dataset.of] : given, ...choice);
  for (const svg of made.tagName === "svg" ? [made] : made.querySelectorAll("svg")) {
    for (const part of svg.querySelectorAll("[aria-label]")) part.removeAttribute("aria-label"); // a picture is read as a whole
    svg.setAttribute("role", "img");
    if (!svg.hasAttribute("aria-label")) svg.setAttribute("aria-hidden", "true"); // a legend's sign
  }
  figure.querySelector(":scope > .drawn")?.remove();
  made.classList.add("drawn");
  figure.prepend(made);
}

for (const figure of document.querySelectorAll("figure[data-plot]")) {
  draw(figure);
  figure.querySelector("select")?.addEventListener("change", event => draw(figure, event.target.value));
}
