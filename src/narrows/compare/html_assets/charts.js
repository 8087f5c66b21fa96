// Colours and the Plotly charts. Plotly reads a subset of HTML in its labels, so names are escaped for it.
const PALETTE = ["#1f5f99", "#d9682b", "#2e8b57", "#a8327d", "#7a6bd1", "#b8860b", "#178a9e", "#8c4a32", "#5b6770", "#c23b4b", "#6a9a2d", "#3c3c8f"];
const SCALE = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [230, 196, 30]];
const safe = (text) => String(text).replace(/[&<>]/g, (char) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[char]);
const short = (text) => (text.length > 44 ? `…${text.slice(-43)}` : text);

function scaleColour(share) {
  const at = Math.max(0, Math.min(1, share)) * (SCALE.length - 1);
  const left = Math.min(Math.floor(at), SCALE.length - 2);
  const mix = SCALE[left].map((from, c) => Math.round(from + (SCALE[left + 1][c] - from) * (at - left)));
  return `rgb(${mix.join(",")})`;
}

let colours = [];
function chooseColours() {
  const values = data.runs.map((run, i) => (state.colour === "run" ? i : valueOf(run, state.colour)));
  const numbers = values.filter(isNumber);
  const distinct = [...new Set(values.map(display))];
  if (state.colour === "run" || distinct.length <= 8 || numbers.length < values.length / 2) {
    colours = values.map((value) => PALETTE[distinct.indexOf(display(value)) % PALETTE.length]);
    return;
  }
  const order = [...new Set(numbers)].sort((a, b) => a - b);
  const rank = new Map(order.map((value, place) => [value, place / Math.max(1, order.length - 1)]));
  colours = values.map((value) => (rank.has(value) ? scaleColour(rank.get(value)) : "#b4bdc6"));
}
const colourOf = (i) => colours[i];

function layout(extra) {
  const axis = { gridcolor: "#e8ecf0", zeroline: false, linecolor: "#9aa5b1", automargin: true };
  const base = {
    margin: { l: 60, r: 20, t: 34, b: 48 }, height: 430, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    font: { family: "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif", size: 12, color: "#1f2933" },
    hoverlabel: { bgcolor: "#fff", align: "left" }, hovermode: "closest",
  };
  return { ...base, ...extra, xaxis: { ...axis, ...extra.xaxis }, yaxis: { ...axis, ...extra.yaxis } };
}
const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

function describe(run) {
  const lines = [`<b>${safe(run.name)}</b>`];
  for (const key of data.keys.slice(0, 12)) {
    const value = valueOf(run, key);
    if (value !== null) lines.push(`${safe(key)} = ${safe(short(display(value)))}`);
  }
  return lines.join("<br>");
}

function plot(section, traces, shape, nothing, config = CONFIG) {
  const place = $(".plot", section);
  if (traces.length) {
    if (place.firstChild && place.firstChild.className === "empty") place.replaceChildren();
    Plotly.react(place, traces, layout(shape), config);
    return;
  }
  Plotly.purge(place);
  place.replaceChildren(make("p", "empty", nothing));
}

function drawCurves() {
  const section = $("#curves");
  const metric = $("select", section).value;
  const visible = new Set(visibleRuns());
  const curves = (data.curves[metric] ?? []).filter(([i]) => visible.has(i));
  const few = curves.length <= 12;
  const traces = curves.map(([i, steps, values]) => ({
    type: "scatter", x: steps, y: values, name: safe(short(data.runs[i].name)), showlegend: few && curves.length > 1,
    mode: steps.length < 40 && few ? "lines+markers" : "lines",
    line: { color: colourOf(i), width: few ? 2 : 1.2 }, marker: { size: 4 }, opacity: few ? 1 : 0.65,
    text: describe(data.runs[i]), hovertemplate: few ? "step %{x}: %{y:.5g}<extra>%{fullData.name}</extra>" : "%{text}<br>step %{x}: %{y:.5g}<extra></extra>",
  }));
  const type = $(".log", section).checked ? "log" : "linear";
  const shape = { xaxis: { title: { text: "step" } }, yaxis: { title: { text: safe(metric) }, type }, legend: { font: { size: 11 } } };
  plot(section, traces, shape, "no run that is shown has a history of this metric");
}

function axisFor(column, values) {
  const numbers = values.filter(isNumber);
  const title = { text: safe(column) };
  if (numbers.length < values.length) return { title, type: "category" };
  const low = Math.min(...numbers);
  return { title, type: isKey.has(column) && low > 0 && Math.max(...numbers) / low >= 50 ? "log" : "linear" };
}

function drawScatter() {
  const section = $("#scatter");
  const [x, y] = [$(".x", section).value, $(".y", section).value];
  const shown = visibleRuns().filter((i) => valueOf(data.runs[i], x) !== null && isNumber(valueOf(data.runs[i], y)));
  const across = shown.map((i) => valueOf(data.runs[i], x));
  const axis = axisFor(x, across);
  const trace = {
    type: "scatter", mode: "markers", x: axis.type === "category" ? across.map((value) => safe(short(display(value)))) : across,
    y: shown.map((i) => valueOf(data.runs[i], y)), text: shown.map((i) => describe(data.runs[i])),
    hovertemplate: "%{text}<br><br>x %{x}<br>y %{y:.5g}<extra></extra>",
    marker: { size: shown.length > 100 ? 7 : 10, color: shown.map(colourOf), line: { color: "#fff", width: 1 } },
  };
  const shape = { xaxis: axis, yaxis: { title: { text: safe(y) } }, showlegend: false };
  plot(section, shown.length ? [trace] : [], shape, "no run that is shown has both");
}

function drawImportance() {
  const section = $("#importance");
  const found = data.importance.find((each) => each.metric === $("select", section).value);
  if (!found) return;
  section.hidden = false;
  const bars = [...found.values].reverse();
  const trace = {
    type: "bar", orientation: "h", y: bars.map(([key]) => safe(key)), x: bars.map(([, share]) => share), marker: { color: "#1f5f99" },
    text: bars.map(([, share]) => `${(100 * share).toFixed(1)}%`), textposition: "outside", cliponaxis: false, hoverinfo: "skip",
  };
  $(".hint", section).textContent = `${found.method}, ${found.runs} completed runs; a share of the variation, not a cause`;
  const shape = { height: 90 + 34 * bars.length, margin: { l: 60, r: 70, t: 8, b: 44 }, xaxis: { title: { text: "importance" }, rangemode: "tozero", tickformat: ".0%" } };
  plot(section, [trace], shape, "", { ...CONFIG, displayModeBar: false });
}
