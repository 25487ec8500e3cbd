// The profile: colors of devices and kinds, steps and nodes, and what is selected.

const DEVICE_COLORS = ["#2f7fd1", "#e08a00", "#1f9d6b", "#c65a9b", "#8a63d2", "#d1503a", "#2aa7b8", "#9c8a1e"];
const KIND_COLORS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f", "#ff9da7",
  "#86bc86", "#a0cbe8", "#d4a6c8"];
const OTHER = "#8d99a6";

const deviceNames = data.devices.map((device) => device.name);
function deviceColor(name) {
  if (name === "core") return OTHER;
  const at = deviceNames.filter((each) => each !== "core").indexOf(name);
  return at < 0 ? OTHER : DEVICE_COLORS[at % DEVICE_COLORS.length];
}

const kindColors = new Map();
function kindColor(kind) {
  return kindColors.get(kind) ?? OTHER;
}

const steps = data.steps.map(([name, kind, shape, device, ms, macs, share, nodes], index) => ({
  index, name, kind: textOf(kind), shape: textOf(shape), device: textOf(device), ms, macs, share, nodes,
}));
const nodes = data.nodes.map(([name, step, partition, op, device, scope, reason, declined, note, shape], index) => ({
  index, name, step, partition, op: textOf(op), device: textOf(device), scope: textOf(scope), reason: textOf(reason),
  declined: textOf(declined), note: textOf(note), shape: textOf(shape),
}));

// --- what is selected: a node, a step, or both ---

const selection = { node: -1, step: -1 };
const selectionListeners = [];
function select(node, step) {
  if (selection.node === node && selection.step === step) return;
  selection.node = node;
  selection.step = step;
  for (const listener of selectionListeners) listener();
}
const nodesByName = new Map(nodes.map((node) => [node.name, node.index]));
function selectStep(index) {
  const first = nodes.find((node) => node.step === index);
  const named = index < 0 ? undefined : steps[index].nodes.map((name) => nodesByName.get(name)).find((n) => n !== undefined);
  select(first ? first.index : named ?? -1, index);
}
function selectNode(index) {
  select(index, nodes[index].step);
}
