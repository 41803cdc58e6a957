// The part of the graph that a group couples: boxes in layers from left to right, bands where weights are cut.
const SVG = "http://www.w3.org/2000/svg";
const BOX = { width: 126, height: 40, across: 38, down: 16, pad: 6, band: 5 };
const BANDS = ["right", "left"];

function shape(name, settings, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(settings)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function titled(words) {
  return shape("title", {}, words);
}

function short(name, most) {
  const last = name.split("/").filter(Boolean).slice(-2).join("/") || name;
  return last.length > most ? `\u2026${last.slice(1 - most)}` : last;
}

function corner(layer, row) {
  return [BOX.pad + layer * (BOX.width + BOX.across), BOX.pad + row * (BOX.height + BOX.down)];
}

function wire(places, [from, to, carried, ...rows], shapes) {
  const [sx, sy] = corner(...places[from]);
  const [ex, ey] = corner(...places[to]);
  const half = BOX.height / 2;
  let x = sx + BOX.width;
  let y = sy + half;
  let path = `M${x} ${y}`;
  const reach = (nx, ny) => {
    const bend = Math.min((nx - x) / 2, BOX.across * 0.7);
    path += `C${x + bend} ${y} ${nx - bend} ${ny} ${nx} ${ny}`;
    [x, y] = [nx, ny];
  };
  rows.forEach((row, k) => {
    const [px, py] = corner(places[from][0] + 1 + k, row);
    reach(px, py + half);
    x = px + BOX.width;
    path += `H${x}`;
  });
  reach(ex, ey + half);
  const told = carried < 0 ? "does not carry these units" : shapes[carried];
  return shape("path", { class: carried < 0 ? "wire" : "wire carries", d: path }, titled(told));
}

function box([layer, row], [name, op], members, tensors) {
  const [x, y] = corner(layer, row);
  const told = members.map((m) => `${tensors[m[0]]}, axis ${m[1]}`);
  const parts = [titled([`${op} ${name}`, ...told].join("\n"))];
  parts.push(shape("rect", { class: members.length ? "box" : "box bare", x, y, width: BOX.width, height: BOX.height, rx: 4 }));
  for (const side of new Set(members.map((m) => BANDS[m[2]] ?? "foot"))) parts.push(band(side, x, y));
  parts.push(shape("text", { class: "op", x: x + 11, y: y + 17 }, op.length > 14 ? `${op.slice(0, 13)}\u2026` : op));
  parts.push(shape("text", { class: "who", x: x + 11, y: y + 31 }, short(name, 16)));
  return shape("g", {}, ...parts);
}

function band(side, x, y) {
  const { width, height, band: thick } = BOX;
  const at = {
    left: [x, y, thick, height], right: [x + width - thick, y, thick, height], foot: [x, y + height - thick, width, thick],
  }[side];
  return shape("rect", { class: "band", x: at[0], y: at[1], width: at[2], height: at[3] });
}

function drawGraph(group, data, shrinks) {
  const { places: nodes, edges } = group;
  const places = nodes.map((n) => n.slice(1));
  const reaches = [...places, ...edges.flatMap((e) => e.slice(3).map((row, k) => [places[e[0]][0] + 1 + k, row]))];
  const [right, foot] = corner(Math.max(...reaches.map((p) => p[0])), Math.max(...reaches.map((p) => p[1])));
  const width = right + BOX.width + BOX.pad;
  const height = foot + BOX.height + BOX.pad;
  const order = [...edges].sort((a, b) => a[2] - b[2]);
  const wires = order.map((edge) => wire(places, edge, data.shapes));
  const boxes = nodes.map((n, k) =>
    box(places[k], data.nodes[n[0]], group.members.filter((m) => m[4] === n[0]), data.tensors));
  const label = `The ${nodes.length} nodes that these units run through, from left to right`;
  const settings = { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label };
  return shape("svg", { ...settings, class: shrinks ? "gp shrinks" : "gp" }, ...wires, ...boxes);
}

// Which units stay: a bar for every unit, filled or hollow.
function drawUnits(group) {
  const bits = atob(group.kept);
  const alive = (k) => (bits.charCodeAt(k >> 3) >> (7 - (k & 7))) & 1;
  const paths = ["", ""];
  for (let k = 0; k < group.size;) {
    const start = k;
    while (k < group.size && alive(k) === alive(start)) k += 1;
    paths[alive(start)] += `M${start} 0h${k - start}v10H${start}z`;
  }
  const parts = [shape("path", { class: "gp-gone", d: paths[0] }), shape("path", { class: "gp-kept", d: paths[1] })];
  const settings = { viewBox: `0 0 ${group.size} 10`, preserveAspectRatio: "none", "aria-hidden": "true", class: "gp" };
  return shape("svg", settings, ...parts);
}

// Pictures of long tables come as a few characters: heights in base 36 of what is removed and kept, or two shares.
function drawSpread(code) {
  const [gone, kept, cut] = code.split(" ");
  const step = 64 / kept.length;
  const high = (digits, k) => parseInt(digits[k], 36);
  const bars = [...kept].map((_, k) => k);
  const hollow = bars.filter((k) => high(gone, k)).map((k) => `M${k * step} 18v-${high(gone, k)}h${step - 1}v${high(gone, k)}z`);
  const full = bars.filter((k) => high(kept, k)).map((k) => `M${k * step + (step - 1) / 2} ${18 - high(gone, k)}v-${high(kept, k)}`);
  const paths = [["gp-gone", hollow.join("")], ["gp-bars", full.join("")], ["gp-cut", cut ? `M${cut} 0v18` : ""]];
  const parts = paths.filter((pair) => pair[1]).map(([kind, d]) => shape("path", { class: kind, d }));
  return shape("svg", { class: "gp gp-spread", viewBox: "0 0 64 18", "aria-hidden": "true" }, ...parts);
}

function drawBars(code) {
  const shares = code.split(" ").map(Number);
  const parts = shares.map((share, k) => shape("rect", { class: k ? "gp-kept" : "gp-gone", width: `${share}%`, height: "100%" }));
  return shape("svg", { class: "gp gp-bar gp-both", "aria-hidden": "true" }, ...parts);
}

for (const place of document.querySelectorAll("[data-s]")) place.replaceWith(drawSpread(place.dataset.s));
for (const place of document.querySelectorAll("[data-b]")) place.replaceWith(drawBars(place.dataset.b));
