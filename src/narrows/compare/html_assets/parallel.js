// Parallel coordinates in plain SVG: Plotly's need WebGL, which remote desktops and virtual machines often lack.
const SVG = "http://www.w3.org/2000/svg";
const brushes = new Map();

function svg(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function parallelAxis(column, top, bottom) {
  const values = data.runs.map((run) => valueOf(run, column)).filter((value) => value !== null);
  const numbers = values.filter(isNumber);
  const distinct = [...new Set(values.map(display))];
  if (numbers.length < values.length || (isKey.has(column) && distinct.length <= 6)) {
    const order = [...new Map(values.map((value) => [display(value), value])).values()].sort((a, b) => compareValues(a, b, false)).map(display);
    const place = (text) => (order.length < 2 ? (top + bottom) / 2 : bottom - (order.indexOf(text) / (order.length - 1)) * (bottom - top));
    const every = Math.ceil(order.length / 14);
    return { at: (value) => place(display(value)), ticks: order.filter((_, i) => i % every === 0).map((text) => [place(text), text]) };
  }
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const bend = isKey.has(column) && low > 0 && high / low >= 50 ? Math.log : (value) => value;
  const straight = bend === Math.log ? Math.exp : (value) => value;
  const span = bend(high) - bend(low) || 1;
  const at = (value) => bottom - ((bend(value) - bend(low)) / span) * (bottom - top);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => [bottom - share * (bottom - top), display(straight(bend(low) + share * span))]);
  return { at, ticks: low === high ? [[bottom, display(low)]] : ticks };
}

function parallelColumns() {
  const metrics = data.metrics.filter((metric) => data.runs.some((run) => isNumber(run.metrics[metric])));
  return [...data.keys.slice(0, 9), ...metrics.slice(0, 4)];
}

function drawParallel() {
  const place = $("#parallel .plot");
  const columns = parallelColumns();
  if (columns.length < 2 || data.runs.length < 2) {
    place.replaceChildren(make("p", "empty", "parallel coordinates need two runs and two columns"));
    return;
  }
  const [top, bottom] = [44, 330];
  const gap = Math.max(128, (place.clientWidth - 210) / (columns.length - 1));
  const width = gap * (columns.length - 1) + 210;
  const canvas = svg("svg", { class: "parallel", width, height: bottom + 26, role: "img", "aria-label": "parallel coordinates" });
  const axes = columns.map((column, n) => ({ column, x: 130 + n * gap, ...parallelAxis(column, top, bottom) }));
  const lines = visibleRuns().map((i) => parallelLine(i, axes)).filter((line) => line !== null);
  canvas.append(...lines.map((line) => line.node));
  for (const axis of axes) drawAxis(canvas, axis, top, bottom, lines);
  fade(lines);
  place.replaceChildren(canvas);
}

function parallelLine(i, axes) {
  const run = data.runs[i];
  const heights = axes.map((axis) => [axis.x, valueOf(run, axis.column)]).map(([x, value], n) =>
    value === null || (typeof value !== "number" && !isKey.has(axes[n].column)) ? null : [x, axes[n].at(value)]);
  const points = heights.filter((point) => point !== null);
  if (points.length < 2) return null;
  const node = svg("path", { class: "run", d: `M${points.map((point) => point.map((c) => c.toFixed(1)).join(",")).join("L")}` });
  node.style.stroke = colourOf(i);
  node.append(svg("title", {}, `${run.name}\n${axes.map((axis) => `${axis.column}: ${display(valueOf(run, axis.column))}`).join("\n")}`));
  return { node, heights: new Map(axes.map((axis, n) => [axis.column, heights[n]?.[1] ?? null])) };
}

function drawAxis(canvas, axis, top, bottom, lines) {
  const group = svg("g", { transform: `translate(${axis.x.toFixed(1)},0)` });
  const cut = Math.max(axis.column.lastIndexOf("/"), axis.column.lastIndexOf(".")) + 1;
  group.append(svg("text", { y: 14, "text-anchor": "middle" }, clip(axis.column.slice(0, cut), 19)));
  group.append(svg("text", { class: "title", y: 29, "text-anchor": "middle" }, clip(axis.column.slice(cut), 17)));
  group.append(svg("line", { class: "axis", y1: top, y2: bottom }));
  for (const [y, text] of axis.ticks) {
    group.append(svg("line", { class: "axis", x1: -4, x2: 0, y1: y, y2: y }));
    group.append(svg("text", { class: "tick", x: -8, y: y + 4, "text-anchor": "end" }, clip(text, 16)));
  }
  const brush = svg("rect", { class: "brush", x: -6, width: 12, y: 0, height: 0 });
  const handle = svg("rect", { class: "handle", x: -12, width: 24, y: top - 8, height: bottom - top + 16 });
  group.append(brush, handle);
  canvas.append(group);
  brushable(axis.column, handle, brush, canvas, lines);
}

function brushable(column, handle, brush, canvas, lines) {
  const show = () => {
    const [low, high] = brushes.get(column) ?? [0, 0];
    brush.setAttribute("y", low);
    brush.setAttribute("height", high - low);
    fade(lines);
  };
  let start = null;
  const heightOf = (event) => event.clientY - canvas.getBoundingClientRect().top;
  handle.addEventListener("pointerdown", (event) => {
    start = heightOf(event);
    handle.setPointerCapture(event.pointerId);
    brushes.delete(column);
    show();
  });
  handle.addEventListener("pointermove", (event) => {
    if (start === null) return;
    const now = heightOf(event);
    if (Math.abs(now - start) > 3) brushes.set(column, [Math.min(start, now), Math.max(start, now)]);
    show();
  });
  handle.addEventListener("pointerup", () => { start = null; });
  show();
}

function fade(lines) {
  for (const { node, heights } of lines) {
    const inside = [...brushes].every(([column, [low, high]]) => {
      const height = heights.get(column);
      return height !== null && height !== undefined && height >= low - 1 && height <= high + 1;
    });
    node.classList.toggle("out", !inside);
  }
}
