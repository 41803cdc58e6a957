// A chosen group: what it couples, drawn; its members; which units stay; how its scores are spread.
const block = document.getElementById("panel-data");
const data = block ? unpacked(JSON.parse(block.textContent)) : null;
const ROLES = ["output slice", "input slice", "scale", "shift or statistics", "other"];

// Names are told as the length of what they share with the one before, and the rest.
function wholeNames(told) {
  const names = [];
  for (let k = 0; k < told.length; k += 2) names.push((names.at(-1) ?? "").slice(0, told[k]) + told[k + 1]);
  return names;
}

function unpacked({ nodes, operators, tensors, shapes, groups }) {
  const named = wholeNames(nodes).map((name, k) => [name, operators[k]]);
  const read = ([members, places, edges, more, size, kept, scores, reason]) => ({ members, places, edges, more, size, kept, scores, reason });
  return { nodes: named, tensors: wholeNames(tensors), shapes, groups: groups.map(read) };
}

function heading(words) {
  return make("h3", {}, words);
}

function number(value) {
  return Number(value.toPrecision(3)).toString();
}

function membersOf(group) {
  const head = ["Parameter", "Axis", "Part", "Places"].map((words, k) => make("th", { scope: "col", class: k % 2 ? "n" : "" }, words));
  const rows = group.members.map(([tensor, axis, role, places]) => make("tr", {},
    make("th", { scope: "row" }, data.tensors[tensor]), make("td", { class: "n" }, String(axis)),
    make("td", {}, ROLES[role] ?? "other"), make("td", { class: "n" }, String(places))));
  return make("table", {}, make("caption", {}, "Members of the group"), make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}

function tensorsOf(group) {
  const shapes = new Set(group.edges.filter((edge) => edge[2] >= 0).map((edge) => data.shapes[edge[2]]));
  return [...shapes].filter(Boolean).join("; ");
}

function scoresOf(group, row) {
  const small = row.querySelector(".gp-spread");
  if (!group.scores) return [];
  const [low, high, cut, log] = group.scores;
  const words = cut === null ? "" : `Cut at ${number(cut)}. `;
  const even = log ? "Bins are even in the logarithm of the score." : "";
  const picture = small ? [make("div", { class: "large" }, small.cloneNode(true))] : [];
  const ends = make("p", { class: "ends" }, make("span", {}, number(low)), make("span", {}, number(high)));
  return [heading("Scores of its units"), ...picture, ends, make("p", {}, words + even)];
}

function unitsOf(group) {
  if (!group.kept) return [];
  if (group.kept === "-") return [make("p", {}, "The model has too many units to draw which of them stay; the report's JSON lists them.")];
  return [heading("Units that stay, first to last"), make("div", { class: "units" }, drawUnits(group))];
}

function graphOf(group) {
  const nodes = group.places.length;
  if (!nodes) return [];
  const label = "The part of the graph that this group couples";
  const frame = make("div", { class: "scroll drawn", tabindex: "0", role: "group", "aria-label": label }, drawGraph(group, data, group.kept !== ""));
  const more = group.more ? ` The first ${nodes} of ${nodes + group.more} nodes are drawn.` : "";
  const key = "A band marks where a node's weights are cut: at the right its output slices, at the left its input slices, at the foot scales and the like. Strong lines carry these units.";
  const tensors = tensorsOf(group);
  const told = tensors ? [make("p", {}, `Shapes on the way: ${tensors}.`)] : [];
  return [heading("What it couples"), frame, make("p", {}, key + more), ...told];
}

function detailOf(row, group) {
  const left = make("div", {}, heading("Members"), membersOf(group));
  const right = make("div", {}, ...unitsOf(group), ...scoresOf(group, row));
  const notes = group.reason ? [make("p", {}, `Not exact: ${group.reason}.`)] : [];
  const parts = [...graphOf(group), ...notes, make("div", { class: "cols" }, left, ...(right.childElementCount ? [right] : []))];
  return make("tr", { class: "detail" }, make("td", { colspan: String(row.cells.length) }, ...parts));
}

function toggle(button, index) {
  const row = button.closest("tr");
  const opens = !row.detail;
  if (opens) {
    row.detail = detailOf(row, data.groups[index]);
    row.after(row.detail);
  } else {
    row.detail.remove();
    row.detail = null;
  }
  button.setAttribute("aria-expanded", String(opens));
}

function step(buttons, button, by) {
  const shown = buttons.filter((b) => !b.closest("tr").hidden);
  const next = [...document.querySelectorAll("table.chosen .open")].filter((b) => shown.includes(b));
  const to = next[next.indexOf(button) + by];
  if (to) to.focus();
}

if (data) {
  const buttons = [...document.querySelectorAll("table.chosen > tbody > tr > th > button")];
  buttons.forEach((button, index) => {
    button.classList.add("open");
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => toggle(button, index));
    button.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && button.closest("tr").detail) toggle(button, index);
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        step(buttons, button, event.key === "ArrowDown" ? 1 : -1);
      }
    });
  });
}
