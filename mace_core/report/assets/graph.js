// The graph: pieces of it at a time, laid out by dagre in a worker, drawn on a canvas.

const COARSE_PIECES = 40;
const LETTERS = 7.6;
const MAP_WIDTH = 74;

function block([label, first, last, pieces]) {
  return { label, first, last, pieces: pieces.map(block) };
}

class GraphView {
  constructor(canvas, layout) {
    this.canvas = canvas;
    this.layout = layout;
    this.tree = block(data.tree);
    this.path = [this.tree];
    this.boxes = [];
    this.edges = [];
    this.view = new Viewport(canvas, { redraw: () => this.drawing.redraw(), vertical: true });
    this.drawing = drawing(canvas, (context, width, height) => this.draw(context, width, height));
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("click", (event) => this.click(event));
    selectionListeners.push(() => this.reveal());
    byId("graph-in").onclick = () => this.view.zoom(1.4);
    byId("graph-out").onclick = () => this.view.zoom(1 / 1.4);
    byId("graph-fit").onclick = () => this.fit(true);
  }

  get shown() {
    return this.path[this.path.length - 1];
  }

  // What is drawn as a box: pieces, or nodes.
  items(shown) {
    if (shown.pieces.length) return shown.pieces.map((piece) => ({ ...piece, piece }));
    return nodes.slice(shown.first, shown.last).map((node) => ({ node, first: node.index, last: node.index + 1 }));
  }

  async open(path, wanted = -1) {
    this.path = path;
    this.showCrumbs();
    hideTip();
    const shown = this.shown, items = this.items(shown);
    const boxes = items.map((item, number) => ({ ...this.measured(item), number }));
    const started = performance.now();
    byId("graph-status").textContent = "laying out …";
    try {
      const placed = await this.layout.place(boxes.map(({ number, width, height }) => ({ v: String(number), width, height })), this.wires(shown, items));
      if (this.shown !== shown) return;
      placed.nodes.forEach((each, number) => Object.assign(boxes[number], { x: each.x, y: each.y }));
      this.boxes = boxes;
      this.edges = placed.edges;
      this.extent = [Math.max(...boxes.map((box) => box.x + box.width / 2), 1), Math.max(...boxes.map((box) => box.y + box.height / 2), 1)];
      document.documentElement.dataset.layoutMs = String(Math.round(performance.now() - started));
      byId("graph-status").textContent = shown.pieces.length ? `${plural(nodes.length, "node")} in pieces: click one to open it` : "";
      this.fit(false);
      if (wanted >= 0) this.center(wanted);
    } catch (error) {
      if (this.shown !== shown) return;
      if (items.length > COARSE_PIECES) {
        shown.pieces = this.coarser(items);
        await this.open(path, wanted);
        return;
      }
      byId("graph-status").textContent = `the graph cannot be laid out: ${error.message}`;
      this.boxes = [];
      this.edges = [];
      this.drawing.redraw();
    }
  }

  coarser(items) {
    const size = Math.ceil(items.length / COARSE_PIECES), pieces = [];
    for (let start = 0; start < items.length; start += size) {
      const group = items.slice(start, start + size);
      const first = group[0].first, last = group[group.length - 1].last;
      pieces.push({ label: `${nodes[first].name} …`, first, last, pieces: group[0].piece ? group.map((item) => item.piece) : [] });
    }
    return pieces;
  }

  measured(item) {
    const label = item.node ? item.node.op : item.label;
    const inside = item.node ? [item.node] : nodes.slice(item.first, item.last);
    const counts = new Map();
    for (const node of inside) counts.set(node.device, (counts.get(node.device) ?? 0) + 1);
    const ms = [...new Set(inside.map((node) => node.step))].reduce((sum, step) => sum + (step < 0 ? 0 : steps[step].ms), 0);
    const small = item.node ? item.node.shape || item.node.name : `${plural(inside.length, "node")}, ${milliseconds(ms)}`;
    const width = Math.min(Math.max(90, Math.max(label.length, small.length * 0.95) * LETTERS + 26), 260);
    return { ...item, label, small, counts, ms, width, height: 40 };
  }

  wires(shown, items) {
    const of = new Int32Array(nodes.length).fill(-1);
    items.forEach((item, number) => of.fill(number, item.first, item.last));
    const found = new Map();
    for (let at = 0; at < data.edges.length; at += 2) {
      const from = of[data.edges[at]], to = of[data.edges[at + 1]];
      if (from >= 0 && to >= 0 && from !== to) found.set(from * items.length + to, { v: String(from), w: String(to) });
    }
    return [...found.values()];
  }

  // All of it where that can be read; else as wide as the canvas, from the top.
  fit(whole) {
    if (!this.extent) return;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight, margin = 14;
    const across = (width - 2 * margin) / this.extent[0], down = (height - 2 * margin) / this.extent[1];
    const all = Math.min(across, down, 1.2);
    const scale = whole || all > 0.45 ? all : Math.min(Math.max(across, 0.45), 0.9);
    this.view.limits = [Math.min(all, 0.3), 3];
    this.view.scale = scale;
    const wide = this.extent[0] * scale;
    this.view.x = wide < width ? (width - wide) / 2 : this.boxes.length ? width / 2 - this.boxes[0].x * scale : margin;
    this.view.y = this.extent[1] * scale < height ? (height - this.extent[1] * scale) / 2 : margin;
    this.drawing.redraw();
  }

  center(index) {
    const box = this.boxes.find((each) => each.first <= index && index < each.last);
    if (!box) return;
    this.view.scale = Math.max(this.view.scale, 0.7);
    this.view.x = this.canvas.clientWidth / 2 - box.x * this.view.scale;
    this.view.y = this.canvas.clientHeight / 2 - box.y * this.view.scale;
    this.drawing.redraw();
  }

  // Show the selected node, wherever it is.
  reveal() {
    const index = selection.node;
    if (index < 0) return this.drawing.redraw();
    const path = [this.tree];
    for (let next = this.tree; next; ) {
      next = next.pieces.find((piece) => piece.first <= index && index < piece.last);
      if (next) path.push(next);
    }
    if (path[path.length - 1] !== this.shown) this.open(path, index);
    else if (this.isOutside(index)) this.center(index);
    else this.drawing.redraw();
  }

  isOutside(index) {
    const box = this.boxes.find((each) => each.first <= index && index < each.last);
    if (!box) return false;
    const x = box.x * this.view.scale + this.view.x, y = box.y * this.view.scale + this.view.y;
    return x < 0 || y < 0 || x > this.canvas.clientWidth || y > this.canvas.clientHeight;
  }

  showCrumbs() {
    byId("crumbs").replaceChildren(...this.path.map((each, depth) => {
      const button = make("button", { type: "button", text: each.label, title: each.label });
      button.disabled = depth === this.path.length - 1;
      button.onclick = () => this.open(this.path.slice(0, depth + 1));
      return button;
    }));
    byId("crumbs").hidden = this.path.length < 2;
  }

  hit(event) {
    if (this.map && this.view.at(event)[0] > this.map.left) return undefined;
    const [x, y] = this.view.toWorld(this.view.at(event));
    return this.boxes.find((box) => Math.abs(x - box.x) <= box.width / 2 && Math.abs(y - box.y) <= box.height / 2);
  }

  hover(event) {
    const box = this.view.isDragging ? undefined : this.hit(event);
    this.canvas.style.cursor = box ? "pointer" : "";
    if (!box) return hideTip();
    if (box.node) return showTip(event, box.node.name, asText(nodeFacts(box.node)));
    const devices = [...box.counts].map(([device, count]) => `${device}: ${plural(count, "node")}`).join("\n");
    const reasons = [...new Set(nodes.slice(box.first, box.last).map((node) => [node.reason, node.declined].filter(Boolean).join("\n")))];
    const more = reasons.length > 3 ? `\nand ${reasons.length - 3} more reasons` : "";
    showTip(event, box.label, `${devices}\n${milliseconds(box.ms)}\nwhy there: ${reasons.slice(0, 3).join("\n")}${more}`);
  }

  click(event) {
    if (this.view.moved) return;
    const map = this.map, [x, y] = this.view.at(event);
    if (map && x > map.left) {
      this.view.x = this.canvas.clientWidth / 2 - ((x - map.left - 4) / map.scale) * this.view.scale;
      this.view.y = this.canvas.clientHeight / 2 - ((y - 4) / map.scale) * this.view.scale;
      return this.drawing.redraw();
    }
    const box = this.hit(event);
    if (!box) return;
    if (box.node) selectNode(box.node.index);
    else this.open([...this.path, box.piece]);
  }

  draw(context, width, height) {
    const { x, y, scale } = this.view;
    const [left, top] = this.view.toWorld([0, 0]), [right, bottom] = this.view.toWorld([width, height]);
    context.save();
    context.translate(x, y);
    context.scale(scale, scale);
    context.strokeStyle = css("--edge");
    context.lineWidth = Math.max(1.2, 0.7 / scale);
    context.beginPath();
    for (const { points } of this.edges) {
      if (Math.max(points[0].y, points[points.length - 1].y) < top || Math.min(points[0].y, points[points.length - 1].y) > bottom) continue;
      context.moveTo(points[0].x, points[0].y);
      for (let at = 1; at < points.length - 1; at++) {
        const point = points[at], next = points[at + 1], isLast = at === points.length - 2;
        context.quadraticCurveTo(point.x, point.y, isLast ? next.x : (point.x + next.x) / 2, isLast ? next.y : (point.y + next.y) / 2);
      }
      if (points.length === 2) context.lineTo(points[1].x, points[1].y);
    }
    context.stroke();
    const card = css("--card"), text = css("--node-text"), chosen = css("--chosen"), mix = Number(css("--mix"));
    const line = css("--line"), isSmall = scale < 0.35;
    for (const box of this.boxes) {
      const l = box.x - box.width / 2, t = box.y - box.height / 2;
      if (l > right || l + box.width < left || t > bottom || t + box.height < top) continue;
      context.fillStyle = card;
      context.fillRect(l, t, box.width, box.height);
      let at = t;
      const total = box.last - box.first;
      for (const [device, count] of box.counts) {
        const part = (box.height * count) / total;
        context.fillStyle = deviceColor(device);
        context.globalAlpha = isSmall ? 0.85 : mix;
        context.fillRect(l, at, box.width, part);
        context.globalAlpha = 1;
        context.fillRect(l, at, 5, part);
        at += part;
      }
      const isChosen = box.first <= selection.node && selection.node < box.last
        || (box.node && selection.step >= 0 && box.node.step === selection.step);
      context.strokeStyle = isChosen ? chosen : line;
      context.lineWidth = isChosen ? 3 : 1;
      context.strokeRect(l, t, box.width, box.height);
      if (isSmall) continue;
      context.fillStyle = text;
      context.font = "600 12px system-ui, sans-serif";
      context.fillText(fitted(context, box.label, box.width - 16), l + 11, t + 17);
      context.globalAlpha = 0.75;
      context.font = "11px system-ui, sans-serif";
      context.fillText(fitted(context, box.small, box.width - 16), l + 11, t + 32);
      context.globalAlpha = 1;
    }
    context.restore();
    this.drawMap(context, width, height);
  }

  // All of the graph at the right edge, with what is in sight, where that is not all.
  drawMap(context, width, height) {
    this.map = null;
    if (!this.boxes.length || (this.extent[0] * this.view.scale < width && this.extent[1] * this.view.scale < height)) return;
    const scale = Math.min((MAP_WIDTH - 8) / this.extent[0], (height - 8) / this.extent[1]), left = width - MAP_WIDTH;
    this.map = { left, scale };
    context.fillStyle = css("--back");
    context.fillRect(left, 0, MAP_WIDTH, height);
    for (const box of this.boxes) {
      let at = box.y - box.height / 2;
      for (const [device, count] of box.counts) {
        const part = (box.height * count) / (box.last - box.first);
        context.fillStyle = box.first <= selection.node && selection.node < box.last ? css("--chosen") : deviceColor(device);
        context.fillRect(left + 4 + (box.x - box.width / 2) * scale, 4 + at * scale, Math.max(box.width * scale, 2), Math.max(part * scale, 1));
        at += part;
      }
    }
    const [l, t] = this.view.toWorld([0, 0]), [r, b] = this.view.toWorld([width, height]);
    context.strokeStyle = css("--text");
    context.lineWidth = 1;
    const inside = (from, to, most) => [Math.max(from, 0), Math.min(to, most)];
    const [x0, x1] = inside(l, r, this.extent[0]), [y0, y1] = inside(t, b, this.extent[1]);
    context.strokeRect(left + 4 + x0 * scale - 2, 4 + y0 * scale - 1, Math.max((x1 - x0) * scale, 3) + 4, Math.max((y1 - y0) * scale, 3) + 2);
  }
}
