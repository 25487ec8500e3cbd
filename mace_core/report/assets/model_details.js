// What is told of a node, a group, an input or an output.

function factsOf(key) {
  const number = numberOf(key);
  switch (kindOf(key)) {
    case "n": {
      const node = nodes[number], list = [["operator", node.op]];
      if (node.origin) list.push(["from", node.origin]);
      if (node.macs) list.push(["work", work(node.macs)]);
      for (const value of node.outputs) if (value >= 0 && values[value].type) list.push(["gives", values[value].type]);
      for (const [name, text] of node.attributes) list.push([name, textOf(text)]);
      return { title: node.name, list };
    }
    case "g": {
      const group = groups[number], inside = new Map();
      const count = (index) => {
        for (const each of groups[index].nodes) inside.set(nodes[each].op, (inside.get(nodes[each].op) ?? 0) + 1);
        groups[index].groups.forEach(count);
      };
      count(number);
      const ops = [...inside].sort((a, b) => b[1] - a[1]).map(([op, many]) => `${op} ×${many}`);
      return { title: group.label, list: [["nodes", String(group.count)], ["work", work(group.macs)], ["operators", ops.join(", ")]] };
    }
    case "i":
      return { title: values[data.inputs[number]].name, list: [["input", values[data.inputs[number]].type]] };
    default:
      return { title: values[data.outputs[number]].name, list: [["output", values[data.outputs[number]].type]] };
  }
}

function nodeLink(index) {
  const button = make("button", { type: "button", className: "link", text: `${nodes[index].op} ${nodes[index].name}` });
  button.onclick = () => select(`n${index}`);
  return button;
}

function figure(number) {
  return Math.abs(number) >= 1e5 || (number !== 0 && Math.abs(number) < 1e-3) ? number.toExponential(3) : String(+number.toPrecision(5));
}

function constantFacts(index) {
  const [size, found] = data.constants[index], parts = [make("div", {}, make("small", { text: `constant, ${bytes(size)}` }))];
  if (!found) return parts;
  if (found.values !== undefined) return [...parts, make("div", { text: found.values })];
  const share = found.zeros ? `, ${(found.zeros * 100).toFixed(1)} % zeros` : "", bad = found.bad ? `, ${found.bad} not finite` : "";
  if (found.low !== undefined) {
    parts.push(make("div", { text: `${figure(found.low)} to ${figure(found.high)}, mean ${figure(found.mean)}, deviation ${figure(found.deviation)}${share}${bad}` }));
    parts.push(histogram(found));
  } else parts.push(make("div", { text: `no finite number${bad}` }));
  return parts;
}

function histogram(found) {
  const space = "http://www.w3.org/2000/svg", picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", `0 0 ${found.counts.length * 10} 46`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("role", "img");
  picture.setAttribute("aria-label", `how often numbers from ${figure(found.low)} to ${figure(found.high)} occur, logarithmic`);
  const most = Math.log1p(Math.max(...found.counts));
  found.counts.forEach((count, at) => {
    const tall = count ? Math.max((44 * Math.log1p(count)) / most, 1) : 0, bar = document.createElementNS(space, "rect");
    for (const [name, value] of [["x", at * 10 + 0.5], ["y", 46 - tall], ["width", 9], ["height", tall]]) bar.setAttribute(name, String(value));
    picture.append(bar);
  });
  return picture;
}

function valueItem(value, others, word) {
  if (value < 0) return make("li", {}, make("small", { text: "left out" }));
  const { name, type, constant } = values[value];
  const item = make("li", {}, make("div", { text: name }), make("small", { text: type || "type not known" }));
  if (constant >= 0) item.append(...constantFacts(constant));
  if (inputSet.has(value)) item.append(make("div", {}, make("small", { text: "an input of the model" })));
  if (outputSet.has(value)) item.append(make("div", {}, make("small", { text: "an output of the model" })));
  for (const index of [...others].slice(0, 12)) item.append(make("div", {}, make("small", { text: `${word} ` }), nodeLink(index)));
  if (others.length > 12) item.append(make("small", { text: `and ${others.length - 12} more` }));
  return item;
}

function showDetails() {
  const panel = byId("details"), { key } = selection;
  if (!key) {
    panel.replaceChildren(make("p", { text: "Click a node of the graph, or search for one." }));
    return;
  }
  const { title, list } = factsOf(key), table = make("dl");
  for (const [word, text] of list) table.append(make("dt", { text: word }), make("dd", { text }));
  const parts = [make("b", { text: title }), table];
  if (kindOf(key) === "n") {
    const node = nodes[numberOf(key)];
    const inputs = make("ol", { className: "values" }), outputs = make("ol", { className: "values" });
    for (const value of node.inputs) inputs.append(valueItem(value, producers.has(value) ? [producers.get(value)] : [], "from"));
    for (const value of node.outputs) outputs.append(valueItem(value, [...(readers.get(value) ?? [])], "to"));
    if (node.inputs.length) parts.push(make("h3", { text: "reads" }), inputs);
    if (node.outputs.length) parts.push(make("h3", { text: "gives" }), outputs);
  }
  if (kindOf(key) === "i" || kindOf(key) === "o") {
    const value = (kindOf(key) === "i" ? data.inputs : data.outputs)[numberOf(key)];
    const around = kindOf(key) === "i" ? [...(readers.get(value) ?? [])] : producers.has(value) ? [producers.get(value)] : [];
    parts.push(make("ol", { className: "values" }, valueItem(value, around, kindOf(key) === "i" ? "to" : "from")));
  }
  panel.replaceChildren(...parts);
}
selectionListeners.push(showDetails);
