// The model: nodes, values, groups, who reads what, and what is selected.

const KIND_COLORS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#ff9da7",
  "#86bc86", "#a0cbe8", "#d4a6c8"];
const OTHER = "#8d99a6";
const AT_FIRST = 90;

const values = data.values.map(([name, type, constant], index) => ({ index, name, type: textOf(type), constant }));
const nodes = data.nodes.map(([name, op, group, inputs, outputs, attributes, origin, macs, inner], index) => ({
  index, name, op: textOf(op), group, inputs, outputs, attributes, origin: textOf(origin), macs, inner,
}));
const groups = data.groups.map(([label, around], index) => ({ index, label, around, groups: [], nodes: [], count: 0, macs: 0 }));
for (const group of groups) if (group.around >= 0) groups[group.around].groups.push(group.index);
for (const node of nodes) {
  groups[node.group].nodes.push(node.index);
  for (let at = node.group; at >= 0; at = groups[at].around) {
    groups[at].count++;
    groups[at].macs += node.macs;
  }
}

const producers = new Map(), readers = new Map();
for (const node of nodes) {
  for (const value of node.outputs) if (value >= 0) producers.set(value, node.index);
  for (const value of [...node.inputs, ...node.inner]) {
    if (value < 0) continue;
    if (!readers.has(value)) readers.set(value, new Set());
    readers.get(value).add(node.index);
  }
}
const inputSet = new Set(data.inputs), outputSet = new Set(data.outputs);

const counts = new Map();
for (const node of nodes) counts.set(node.op, (counts.get(node.op) ?? 0) + 1);
const operators = [...counts].sort((a, b) => b[1] - a[1]);
const opColors = new Map(operators.slice(0, KIND_COLORS.length).map(([op], at) => [op, KIND_COLORS[at]]));
function opColor(op) {
  return opColors.get(op) ?? OTHER;
}

function work(macs) {
  if (macs >= 1e9) return `${(macs / 1e9).toFixed(3)} GMAC`;
  return macs >= 1e6 ? `${(macs / 1e6).toFixed(2)} MMAC` : `${macs.toLocaleString("en")} MAC`;
}

// What a box of the picture stands for: "n3" a node, "g2" a group, "i0" an input, "o1" an output.
const selection = { key: "" };
const selectionListeners = [];
function select(key) {
  if (selection.key === key) return;
  selection.key = key;
  for (const listener of selectionListeners) listener();
}
const kindOf = (key) => key[0];
const numberOf = (key) => Number(key.slice(1));
