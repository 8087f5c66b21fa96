// Controls, and the first drawing.
function drawAll() {
  chooseColours();
  drawTable();
  drawCurves();
  drawParallel();
  drawScatter();
}

function wire(selector, event, action) {
  $(selector).addEventListener(event, action);
}

function start() {
  const columns = [["config", named(data.keys)], ["figures", named(data.every)]];
  options($("#colour"), [["", [["run", "run"]]], ["config", named(data.keys)], ["figures", named(data.metrics)]], data.colour);
  options($("#curves select"), [["histories", named(Object.keys(data.curves))]], data.curve);
  options($("#scatter .x"), columns, data.scatter[0]);
  options($("#scatter .y"), [["figures", named(data.every)]], data.scatter[1]);
  options($("#importance select"), [["figures", named(data.importance.map((each) => each.metric))]]);
  state.colour = $("#colour").value;
  state.descending = data.higher[data.sort] === true;
  $("#summary").textContent = data.summary;
  wire("#filter", "input", (event) => {
    state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    drawAll();
  });
  wire("#colour", "change", (event) => { state.colour = event.target.value; drawAll(); });
  wire("#every", "change", (event) => { state.every = event.target.checked; drawTable(); });
  wire("#curves select", "change", drawCurves);
  wire("#curves .log", "change", drawCurves);
  wire("#scatter .x", "change", drawScatter);
  wire("#scatter .y", "change", drawScatter);
  wire("#importance select", "change", drawImportance);
  window.addEventListener("resize", drawParallel);
  drawNotes();
  drawGroups();
  drawAll();
  drawImportance();
  drawPictures();
  document.body.dataset.ready = "true";
}

start();
