// What is told of a node, a step or a piece of the graph: on hover, and in the panel of what is selected.

function nodeFacts(node) {
  const facts = [["operator", node.op]];
  if (node.shape) facts.push(["shape", node.shape]);
  facts.push(["device", node.device], ["why there", node.reason]);
  if (node.declined) facts.push(["elsewhere", node.declined]);
  if (node.note) facts.push(["note", node.note]);
  if (node.scope) facts.push(["within", node.scope]);
  facts.push(["partition", String(node.partition)]);
  if (node.step >= 0) facts.push(...stepFacts(steps[node.step]));
  return facts;
}

function stepFacts(step) {
  const facts = [["step", `${step.kind}, ${milliseconds(step.ms)}`]];
  if (step.macs) facts.push(["work", `${(step.macs / 1e6).toFixed(2)} MMAC`]);
  if (step.nodes.length > 1) facts.push(["together", step.nodes.slice(0, 12).join("\n") + (step.nodes.length > 12 ? `\nand ${step.nodes.length - 12} more` : "")]);
  return facts;
}

function asText(facts) {
  return facts.map(([word, text]) => `${word}: ${text}`).join("\n");
}

function showDetails() {
  const panel = byId("details");
  const node = nodes[selection.node], step = steps[selection.step];
  if (!node && !step) {
    panel.replaceChildren(make("p", { text: "Click a node, a box of the timeline or a row of the table." }));
    return;
  }
  const facts = node ? nodeFacts(node) : [["device", step.device], ...stepFacts(step)];
  const list = make("dl");
  for (const [word, text] of facts) list.append(make("dt", { text: word }), make("dd", { text }));
  panel.replaceChildren(make("b", { text: node ? node.name : step.name }), list);
}
selectionListeners.push(showDetails);
