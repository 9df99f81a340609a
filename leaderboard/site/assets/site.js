// Tables that sort and filter, and a page that follows a run. All pages read without it.
"use strict";

const state = {
  key: "bakeoff:" + location.pathname,
  get() { try { return JSON.parse(sessionStorage.getItem(this.key)) ?? {}; } catch { return {}; } },
  set(change) { try { sessionStorage.setItem(this.key, JSON.stringify(Object.assign(this.get(), change))); } catch { /* private mode */ } },
};

function sort(th, down) {
  const table = th.closest("table"), body = table.tBodies[0], column = th.cellIndex;
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = row => row.cells[column]?.dataset.value ?? row.cells[column]?.textContent ?? "";
  const rows = [...body.rows].filter(row => !row.classList.contains("failed"));
  rows.sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return down ? -order : order;
  });
  body.prepend(...rows);
}

for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const th = button.closest("th"), down = th.getAttribute("aria-sort") === "ascending";
  sort(th, down);
  state.set({ sorted: [th.closest("table").id, th.cellIndex, down] });
});

function filter(input) {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean), rows = document.getElementById(input.dataset.table).tBodies[0].rows;
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
    shown += !row.hidden;
  }
  document.getElementById(input.dataset.table + "-shown").textContent = words.length ? `${shown} of ${rows.length}` : "";
}

for (const input of document.querySelectorAll(".filter input")) input.addEventListener("input", () => {
  filter(input);
  state.set({ filter: input.value });
});

// What was sorted and filtered stays so when a run has the page loaded anew.
const before = state.get(), field = document.querySelector(".filter input");
if (before.sorted) {
  const [id, column, down] = before.sorted, th = document.getElementById(id)?.tHead?.rows[0].cells[column];
  if (th) sort(th, down);
}
if (field && before.filter) {
  field.value = before.filter;
  filter(field);
}

function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.tagName === "DETAILS") target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();

// A run says in assets/now.js what it is at. Loaded as a script, since a page from a file may fetch nothing.
const root = document.body.dataset.root;
if (root !== undefined) {
  let build = null;
  window.bakeoffNow = now => {
    const line = document.getElementById("now");
    line.hidden = !now.says;
    const minutes = Math.round((Date.now() / 1000 - now.at) / 60);
    line.textContent = now.says ? now.says + (minutes > 0 ? `, ${minutes} min ago` : "") : "";
    if (build !== null && now.build !== build) location.reload();
    build = now.build;
    setTimeout(look, now.says ? 2000 : 5000);
  };
  const look = () => {
    const script = document.createElement("script");
    script.src = `${root}assets/now.js?${Date.now()}`;
    script.onload = () => script.remove();
    document.head.append(script);
  };
  look();
}
