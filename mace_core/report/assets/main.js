// Puts the page together.

function card(figureText, words) {
  return make("div", { className: "card" }, make("b", { text: figureText }), make("span", { text: words }));
}

function showHead() {
  byId("label").textContent = data.label;
  byId("signature").textContent = data.signature;
  const { latency } = data;
  const cards = [card(milliseconds(latency.median), `median of ${plural(latency.runs, "warm run")}; ${milliseconds(latency.min)} at best`)];
  for (const device of data.devices) {
    const made = card(plural(device.nodes, "node"), `${device.name}${device.virtual ? " (virtual)" : ""}${device.is ? `: ${device.is}` : ""}`);
    made.firstChild.prepend(dot(deviceColor(device.name)), " ");
    cards.push(made);
  }
  if (data.macs) cards.push(card(`${(data.macs / 1e9).toFixed(3)} GMAC`, `a run; ${(data.macs / latency.median / 1e6).toFixed(1)} GMAC/s`));
  cards.push(card(bytes(data.memory.peak), "of results alive at most"), card(bytes(data.memory.weights), "of weights"));
  byId("cards").replaceChildren(...cards);
  byId("notes").replaceChildren(...data.notes.map((text) => make("li", { text })));
  byId("legend").replaceChildren(...data.devices.map((device) => make("span", {}, dot(deviceColor(device.name)), device.name)));
  const layout = library ? `; graph layout: ${library.version}` : "";
  byId("footer").textContent = `Made by mace profile ${data.version}${layout}. Steps show the mean of the profiled runs, which take longer than warm runs.`;
}

async function start() {
  giveKindsColors();
  showHead();
  setUpThemes();
  showDetails();
  const timeline = new Timeline(byId("timeline"));
  byId("run").replaceChildren(...data.runs.map((run, at) => make("option", { value: String(at), text: `${run.label} run, ${milliseconds(run.us / 1000)}` })));
  byId("run").onchange = (event) => timeline.show(data.runs[Number(event.target.value)]);
  timeline.show(data.runs[0]);
  drawMemory();
  showCosts();
  showSteps();
  if (library) {
    const graph = document.__graph = new GraphView(byId("graph"), new GraphLayout(library.source));
    await graph.open(graph.path);
  } else {
    byId("graph-section").remove();
    document.querySelector(".columns").style.gridTemplateColumns = "minmax(0, 1fr)";
  }
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}
start();
