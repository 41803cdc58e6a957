// Tables that sort by a press on a heading, are searched, and show their first rows until asked for all.
function make(name, settings = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(settings)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const states = new Map();

function stateOf(table) {
  if (!states.has(table)) {
    const rows = [...table.tBodies[0].rows];
    const words = rows.map(nameOf);
    states.set(table, { rows, order: rows, words, query: "", column: -1, way: "none", all: false, first: Infinity });
  }
  return states.get(table);
}

function nameOf(row) {
  return `${row.cells[0].textContent} ${row.cells[1] ? row.cells[1].textContent : ""}`.toLowerCase();
}

const FACTORS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, ms: 1e-3, us: 1e-6 };

// Numbers are sorted as they are shown: 4.11 G, 97.5 MB, 62%, 3.1 ms.
function keyOf(row, column) {
  const shown = row.cells[column].textContent.trim();
  const found = shown.match(/^(-?[\d.]+(?:e[-+]?\d+)?) ?([kMGT]|ms|us)?(?:B|s|%)?$/);
  if (shown === "\u2013") return -Infinity;
  return found ? Number(found[1]) * (FACTORS[found[2]] ?? 1) : shown.toLowerCase();
}

function inOrder(state) {
  if (state.way === "none") return state.rows;
  const sign = state.way === "ascending" ? 1 : -1;
  const keyed = state.rows.map((row) => [keyOf(row, state.column), row]);
  const before = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  return keyed.sort((a, b) => sign * before(a[0], b[0])).map((pair) => pair[1]);
}

function refresh(table) {
  const state = stateOf(table);
  const wanted = new Set(state.rows.filter((_, k) => state.words[k].includes(state.query)));
  let shown = 0;
  for (const row of state.order) {
    row.hidden = !wanted.has(row) || (!state.all && shown >= state.first);
    if (!row.hidden) shown += 1;
    if (row.detail) row.detail.hidden = row.hidden;
  }
  for (const counter of document.querySelectorAll(`output[data-of="${table.id}"]`)) {
    const part = shown < state.rows.length ? `${shown} of ${state.rows.length}` : `${shown}`;
    counter.textContent = `${part} ${counter.dataset.what}`;
  }
  for (const button of document.querySelectorAll(`button.all[data-of="${table.id}"]`)) {
    button.hidden = state.all || wanted.size <= state.first;
    button.textContent = `Show all ${wanted.size}`;
  }
}

function sortBy(table, heading) {
  const state = stateOf(table);
  const numbers = heading.classList.contains("n");
  const turns = numbers ? ["none", "descending", "ascending"] : ["none", "ascending", "descending"];
  const now = heading.getAttribute("aria-sort");
  state.column = heading.cellIndex;
  state.way = turns[(turns.indexOf(now) + 1) % 3];
  for (const other of table.tHead.rows[0].cells) {
    if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", other === heading ? state.way : "none");
  }
  state.order = inOrder(state);
  table.tBodies[0].append(...state.order.flatMap((row) => (row.detail ? [row, row.detail] : [row])));
  refresh(table);
}

for (const table of document.querySelectorAll("table.sorts")) {
  stateOf(table);
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button.sort");
    if (button) sortBy(table, button.closest("th"));
  });
}

for (const field of document.querySelectorAll(".tools input")) {
  const table = document.getElementById(field.dataset.of);
  field.addEventListener("input", () => {
    stateOf(table).query = field.value.trim().toLowerCase();
    refresh(table);
  });
}

for (const button of document.querySelectorAll("button.all")) {
  const table = document.getElementById(button.dataset.of);
  stateOf(table).first = Number(button.dataset.first);
  refresh(table);
  table.classList.remove("folded");
  button.addEventListener("click", () => {
    const state = stateOf(table);
    const next = state.order.find((row) => row.hidden);
    state.all = true;
    refresh(table);
    const focus = next && next.querySelector("button");
    if (focus) focus.focus();
  });
}

// On paper everything that folds is open.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const part of folded) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of folded) part.open = false;
});
