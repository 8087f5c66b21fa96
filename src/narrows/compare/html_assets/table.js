"use strict";
// The report's data and state. Whatever came from a run's files reaches the page through textContent alone.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const state = { words: [], sort: data.sort, descending: false, every: false, colour: null };
const isKey = new Set(data.keys);

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function options(select, groups, chosen) {
  for (const [label, names] of groups) {
    if (!names.length) continue;
    const group = document.createElement("optgroup");
    group.label = label;
    for (const [value, text] of names) {
      const option = make("option", "", text);
      option.value = value;
      group.append(option);
    }
    select.append(group);
  }
  if (chosen !== undefined) select.value = chosen;
}

const named = (names) => names.map((name) => [name, name]);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

function valueOf(run, column) {
  if (column === "run") return run.name;
  if (column === "status") return run.status;
  const source = isKey.has(column) ? run.keys : run.metrics;
  return Object.hasOwn(source, column) ? source[column] : null;
}

function display(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  const size = Math.abs(value);
  return size >= 1000 && size < 1e6 ? value.toFixed(1) : String(Number(value.toPrecision(4)));
}

// Numbers before words before nothing, whichever way the column is sorted.
function compareValues(a, b, descending) {
  const kind = (value) => (isNumber(value) ? 0 : value === null || value === undefined ? 2 : 1);
  if (kind(a) !== kind(b)) return kind(a) - kind(b);
  if (kind(a) === 2) return 0;
  const order = kind(a) === 0 ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return descending ? -order : order;
}

const rowText = data.runs.map((run) =>
  [run.name, run.status, ...data.keys.map((key) => `${key}=${display(valueOf(run, key))}`)].join(" ").toLowerCase());

function visibleRuns() {
  return data.runs.map((_, i) => i).filter((i) => state.words.every((word) => rowText[i].includes(word)));
}

function heading(name, className) {
  const cell = make("th", className);
  const cut = Math.max(name.lastIndexOf("/"), name.lastIndexOf(".")) + 1;
  if (cut) cell.append(make("span", "parent", name.slice(0, cut)));
  cell.append(name.slice(cut));
  cell.dataset.column = name;
  cell.tabIndex = 0;
  return cell;
}

function sortBy(column) {
  if (state.sort === column) state.descending = !state.descending;
  else state.descending = data.higher[column] === true;
  state.sort = column;
  drawTable();
}

function drawTable() {
  const metrics = state.every ? data.every : data.metrics;
  const table = $("#runs table");
  const head = make("tr");
  head.append(heading("run"), heading("status"));
  for (const key of data.keys) head.append(heading(key));
  for (const metric of metrics) head.append(heading(metric, "figure"));
  for (const cell of head.children) {
    if (cell.dataset.column === state.sort) cell.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    cell.addEventListener("click", () => sortBy(cell.dataset.column));
    cell.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(cell.dataset.column));
  }
  const visible = visibleRuns();
  visible.sort((a, b) => compareValues(valueOf(data.runs[a], state.sort), valueOf(data.runs[b], state.sort), state.descending));
  const body = make("tbody");
  for (const i of visible) body.append(tableRow(i, metrics));
  const top = make("thead");
  top.append(head);
  table.replaceChildren(top, body);
  $("#count").textContent = visible.length === data.runs.length ? "" : `${visible.length} of ${data.runs.length} runs`;
}

function tableRow(i, metrics) {
  const run = data.runs[i];
  const row = make("tr");
  const name = make("td", "name");
  const swatch = make("span", "swatch");
  swatch.style.background = colourOf(i);
  name.append(swatch, run.name);
  name.title = run.path;
  const status = make("td");
  status.append(make("span", `status ${run.status}`, run.status));
  row.append(name, status);
  for (const key of data.keys) row.append(valueCell(valueOf(run, key), ""));
  for (const metric of metrics) {
    const best = run.best.includes(metric) ? " best" : "";
    const cell = valueCell(valueOf(run, metric), `figure${best}`);
    if (isNumber(run.metrics[metric])) cell.title = String(run.metrics[metric]);
    row.append(cell);
  }
  return row;
}

function valueCell(value, className) {
  const absent = value === null || value === undefined ? " absent" : "";
  return make("td", className + absent, display(value));
}

function drawGroups() {
  const groups = data.groups;
  if (!groups) return;
  const section = $("#groups");
  section.hidden = false;
  $("h2", section).textContent = `Mean ± standard deviation over ${groups.by.join(", ")}`;
  const head = make("tr");
  for (const name of ["n", ...groups.keys]) head.append(heading(name));
  for (const name of groups.metrics) head.append(heading(name, "figure"));
  const body = make("tbody");
  for (const group of groups.rows) {
    const row = make("tr");
    row.append(make("td", "", group.n));
    for (const key of groups.keys) row.append(valueCell(group.keys[key], ""));
    for (const metric of groups.metrics) {
      row.append(make("td", `figure${group.best.includes(metric) ? " best" : ""}`, group.figures[metric] ?? "–"));
    }
    body.append(row);
  }
  const top = make("thead");
  top.append(head);
  $("table", section).append(top, body);
}

function drawNotes() {
  const section = $("#notes");
  section.hidden = data.notes.length === 0;
  for (const note of data.notes) $("ul", section).append(make("li", "", note));
}

function drawPictures() {
  const { names, runs } = data.pictures;
  if (!runs.length) return;
  const section = $("#pictures");
  section.hidden = false;
  const gallery = $(".gallery", section);
  gallery.style.gridTemplateColumns = `repeat(${runs.length}, minmax(240px, 1fr))`;
  for (const picture of runs) {
    const head = make("div", "head", picture.run);
    head.append(make("small", "", picture.figure));
    gallery.append(head);
  }
  for (const name of names) {
    for (const picture of runs) gallery.append(pictureOf(name, picture));
  }
}

function pictureOf(name, picture) {
  const frame = make("figure");
  const source = picture.images[name];
  if (source) {
    const image = make("img");
    image.alt = `${name} of ${picture.run}`;
    image.src = source;
    image.addEventListener("click", () => image.classList.toggle("whole"));
    frame.append(image);
  }
  frame.append(make("figcaption", "", source ? name : `no ${name}`));
  return frame;
}
