// The picture of the graph: closed groups are boxes, open ones frames around what is in them.

const LETTERS = 7.2;

class ModelView {
  constructor(canvas, layout) {
    this.canvas = canvas;
    this.layout = layout;
    this.open = new Set();
    this.boxes = new Map();
    this.frames = [];
    this.edges = [];
    this.extent = [1, 1];
    this.view = new Viewport(canvas, { redraw: () => this.drawing.redraw(), vertical: true });
    this.drawing = drawing(canvas, (context, width, height) => this.draw(context, width, height));
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("click", (event) => this.click(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    selectionListeners.push(() => this.reveal());
    byId("graph-in").onclick = () => this.view.zoom(1.4);
    byId("graph-out").onclick = () => this.view.zoom(1 / 1.4);
    byId("graph-fit").onclick = () => this.fit();
    byId("collapse").onclick = () => this.show(new Set([0]));
    byId("expand").onclick = () => this.show(new Set(groups.map((group) => group.index)));
  }

  // The groups that are open at first: level by level, as long as there are not too many boxes.
  firstOpen() {
    const open = new Set();
    let shown = 1, level = [0];
    while (level.length) {
      const next = [];
      for (const index of level) {
        const group = groups[index], more = group.groups.length + group.nodes.length - 1;
        if (index !== 0 && shown + more > AT_FIRST) continue;
        shown += more;
        open.add(index);
        next.push(...group.groups);
      }
      level = next;
    }
    return open;
  }

  // The box that a node is drawn as: itself, or the outermost closed group around it.
  boxOf(node) {
    let found = `n${node.index}`;
    for (let at = node.group; at >= 0; at = groups[at].around) if (!this.open.has(at)) found = `g${at}`;
    return found;
  }

  isShown(group) {
    for (let at = groups[group].around; at >= 0; at = groups[at].around) if (!this.open.has(at)) return false;
    return true;
  }

  // Boxes, frames and wires of what is open.
  contents() {
    const boxes = new Map(), wires = new Map();
    const add = (key, parent) => boxes.has(key) || boxes.set(key, { key, parent, ...this.measured(key) });
    const home = nodes.map((node) => {
      const key = this.boxOf(node);
      const around = kindOf(key) === "n" ? node.group : groups[numberOf(key)].around;
      add(key, around);
      return key;
    });
    const wire = (from, to) => from !== to && wires.set(`${from} ${to}`, { v: from, w: to });
    data.inputs.forEach((value, at) => {
      add(`i${at}`, 0);
      for (const reader of readers.get(value) ?? []) wire(`i${at}`, home[reader]);
    });
    for (const node of nodes) {
      for (const value of [...node.inputs, ...node.inner]) {
        const from = producers.get(value);
        if (from !== undefined) wire(home[from], home[node.index]);
      }
    }
    data.outputs.forEach((value, at) => {
      add(`o${at}`, 0);
      const from = producers.get(value);
      if (from !== undefined) wire(home[from], `o${at}`);
    });
    const frames = [...this.open].filter((index) => index !== 0 && this.isShown(index) && groups[index].count);
    return { boxes, wires: [...wires.values()], frames };
  }

  measured(key) {
    const number = numberOf(key);
    let title, small;
    switch (kindOf(key)) {
      case "n": {
        const node = nodes[number], type = values[node.outputs.find((value) => value >= 0)]?.type ?? "";
        title = node.op;
        small = type.replace(/^[^[]*/, "") || node.name;
        break;
      }
      case "g":
        title = `+ ${groups[number].label}`;
        small = plural(groups[number].count, "node") + (groups[number].macs ? `, ${work(groups[number].macs)}` : "");
        break;
      case "i":
        title = values[data.inputs[number]].name;
        small = values[data.inputs[number]].type;
        break;
      default:
        title = values[data.outputs[number]].name;
        small = values[data.outputs[number]].type;
    }
    const width = Math.min(Math.max(title.length * LETTERS + 26, small.length * 6.4 + 22, 84), 230);
    return { title, small, width, height: 42 };
  }

  async show(open, center = "") {
    open.add(0);
    this.open = open;
    hideTip();
    const wanted = this.wanted = {};
    const { boxes, wires, frames } = this.contents();
    const list = [...boxes.values()];
    byId("graph-status").textContent = "laying out …";
    const started = performance.now();
    let placed, isNested = frames.length > 0;
    try {
      placed = await this.place(list, wires, isNested ? frames : []);
    } catch (error) {
      if (this.wanted !== wanted) return;
      try {
        isNested = false;
        placed = await this.place(list, wires, []);
      } catch {
        if (this.wanted !== wanted) return;
        byId("graph-status").textContent = `${plural(list.length, "box")} cannot be laid out in time (${error.message}): close some groups`;
        return;
      }
    }
    if (this.wanted !== wanted) return;
    const at = new Map(placed.nodes.map((node) => [node.v, node]));
    for (const box of list) Object.assign(box, { x: at.get(box.key).x, y: at.get(box.key).y });
    this.boxes = boxes;
    this.edges = placed.edges;
    this.frames = isNested ? frames.map((index) => ({ index, ...at.get(`g${index}`) })) : [];
    const ends = [...list, ...this.frames];
    this.extent = [Math.max(...ends.map((box) => box.x + box.width / 2), 1), Math.max(...ends.map((box) => box.y + box.height / 2), 1)];
    byId("graph-status").textContent = frames.length && !isNested ? "open groups have no frames: the graph is too large to lay out with them" : "";
    document.documentElement.dataset.layoutMs = String(Math.round(performance.now() - started));
    document.documentElement.dataset.boxes = String(list.length);
    if (center && boxes.has(center)) this.center(center);
    else this.fit();
  }

  place(list, wires, frames) {
    const depth = (index) => (groups[index].around < 0 ? 0 : 1 + depth(groups[index].around));
    const isFramed = new Set(frames);
    const parent = (index) => {
      for (let at = index; at > 0; at = groups[at].around) if (isFramed.has(at)) return `g${at}`;
      return undefined;
    };
    const ordered = [...frames].sort((a, b) => depth(a) - depth(b));
    const boxes = [
      ...ordered.map((index) => ({ v: `g${index}`, width: 10, height: 10, parent: parent(groups[index].around) })),
      ...list.map((box) => ({ v: box.key, width: box.width, height: box.height, parent: parent(box.parent) })),
    ].map((box) => (box.parent === undefined ? { v: box.v, width: box.width, height: box.height } : box));
    return this.layout.place(boxes, wires.map(({ v, w }) => ({ v, w })));
  }

  fit() {
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    const scale = Math.min((width - 24) / this.extent[0], (height - 24) / this.extent[1], 1);
    this.view.scale = Math.max(scale, 0.02);
    this.view.x = (width - this.extent[0] * this.view.scale) / 2;
    this.view.y = (height - this.extent[1] * this.view.scale) / 2;
    if (this.view.scale < 0.3) { // too small to read: the beginning, in a size that can be read
      this.view.scale = 0.7;
      const first = this.boxes.get("i0") ?? this.boxes.values().next().value;
      this.view.x = width / 2 - (first?.x ?? 0) * 0.7;
      this.view.y = 24 - ((first?.y ?? 0) - 40) * 0.7;
    }
    this.drawing.redraw();
  }

  center(key) {
    const box = this.boxes.get(key);
    if (!box) return;
    this.view.scale = Math.max(this.view.scale, 0.6);
    this.view.x = this.canvas.clientWidth / 2 - box.x * this.view.scale;
    this.view.y = this.canvas.clientHeight / 2 - box.y * this.view.scale;
    this.drawing.redraw();
  }

  // What is selected comes into sight: groups around it are opened.
  reveal() {
    const key = selection.key;
    if (kindOf(key) !== "n" || this.boxes.has(key)) {
      const box = this.boxes.get(key);
      if (box && this.isOutside(box)) this.center(key);
      return this.drawing.redraw();
    }
    const open = new Set(this.open);
    for (let at = nodes[numberOf(key)].group; at >= 0; at = groups[at].around) open.add(at);
    this.show(open, key);
  }

  isOutside(box) {
    const x = box.x * this.view.scale + this.view.x, y = box.y * this.view.scale + this.view.y;
    return x < 0 || y < 0 || x > this.canvas.clientWidth || y > this.canvas.clientHeight;
  }

  toggle(group) {
    const open = new Set(this.open);
    if (open.has(group)) {
      const inside = (index) => {
        open.delete(index);
        groups[index].groups.forEach(inside);
      };
      inside(group);
    } else open.add(group);
    this.show(open, open.has(group) ? this.firstBox(group) : `g${group}`);
  }

  firstBox(group) {
    const found = groups[group];
    return found.nodes.length ? `n${found.nodes[0]}` : `g${found.groups[0]}`;
  }

  hit(event) {
    const [x, y] = this.view.toWorld(this.view.at(event));
    for (const box of this.boxes.values()) if (Math.abs(x - box.x) <= box.width / 2 && Math.abs(y - box.y) <= box.height / 2) return box;
    const heads = this.frames.filter((frame) => Math.abs(x - frame.x) <= frame.width / 2
      && y >= frame.y - frame.height / 2 && y <= frame.y - frame.height / 2 + 18);
    const inner = heads[heads.length - 1];
    return inner && { key: `g${inner.index}`, isFrame: true };
  }

  hover(event) {
    const box = this.view.isDragging ? undefined : this.hit(event);
    this.canvas.style.cursor = box ? "pointer" : "";
    if (!box) return hideTip();
    if (box.isFrame) return showTip(event, groups[numberOf(box.key)].label, "click to close");
    const facts = factsOf(box.key);
    showTip(event, facts.title, facts.list.slice(0, 8).map(([word, text]) => `${word}: ${text}`).join("\n"));
  }

  click(event) {
    if (this.view.moved) return;
    const box = this.hit(event);
    if (!box) return;
    if (kindOf(box.key) === "g") this.toggle(numberOf(box.key));
    else select(box.key);
  }

  key(event) {
    const key = selection.key, isNode = kindOf(key) === "n";
    const step = { n: 1, p: -1 }[event.key];
    if (step) select(`n${Math.min(Math.max((isNode ? numberOf(key) : step > 0 ? -1 : 1) + step, 0), nodes.length - 1)}`);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter" && kindOf(key) === "g") this.toggle(numberOf(key));
    else if (event.key === "c" && isNode && nodes[numberOf(key)].group > 0) {
      const group = nodes[numberOf(key)].group;
      this.toggle(group);
      select(`g${group}`);
    } else return;
    event.preventDefault();
  }

  draw(context, width, height) {
    const { x, y, scale } = this.view;
    const [left, top] = this.view.toWorld([0, 0]), [right, bottom] = this.view.toWorld([width, height]);
    context.save();
    context.translate(x, y);
    context.scale(scale, scale);
    const faint = css("--faint"), line = css("--line"), chosen = css("--chosen"), card = css("--card"), text = css("--node-text");
    for (const frame of this.frames) {
      const l = frame.x - frame.width / 2, t = frame.y - frame.height / 2;
      context.fillStyle = css("--accent");
      context.globalAlpha = 0.05;
      context.fillRect(l, t, frame.width, frame.height);
      context.globalAlpha = 1;
      context.strokeStyle = selection.key === `g${frame.index}` ? chosen : line;
      context.lineWidth = 1.5;
      context.strokeRect(l, t, frame.width, frame.height);
      if (scale < 0.35) continue;
      context.fillStyle = faint;
      context.font = "600 11px system-ui, sans-serif";
      context.fillText(fitted(context, `− ${groups[frame.index].label}`, frame.width - 10), l + 6, t + 13);
    }
    context.strokeStyle = css("--edge");
    context.lineWidth = Math.max(1.2, 0.7 / scale);
    const [ownKey, near] = [selection.key, []];
    context.beginPath();
    for (const edge of this.edges) {
      const { points } = edge, ys = points.map((point) => point.y);
      if (Math.max(...ys) < top || Math.min(...ys) > bottom) continue;
      if (edge.v === ownKey || edge.w === ownKey) near.push(edge);
      else this.curve(context, points);
    }
    context.stroke();
    context.strokeStyle = chosen;
    context.lineWidth = Math.max(2, 1 / scale);
    context.beginPath();
    for (const edge of near) this.curve(context, edge.points);
    context.stroke();
    for (const box of this.boxes.values()) {
      const l = box.x - box.width / 2, t = box.y - box.height / 2;
      if (l > right || l + box.width < left || t > bottom || t + box.height < top) continue;
      this.drawBox(context, box, l, t, { card, line, chosen, text, isSmall: scale < 0.35 });
    }
    context.restore();
  }

  drawBox(context, box, l, t, { card, line, chosen, text, isSmall }) {
    const kind = kindOf(box.key), number = numberOf(box.key), round = kind === "i" || kind === "o" ? 20 : 5;
    const color = kind === "n" ? opColor(nodes[number].op) : kind === "g" ? css("--accent") : css("--faint");
    context.beginPath();
    context.roundRect(l, t, box.width, box.height, round);
    context.fillStyle = card;
    context.fill();
    context.fillStyle = color;
    context.globalAlpha = isSmall ? 0.85 : kind === "g" ? 0.14 : Number(css("--mix"));
    context.fill();
    context.globalAlpha = 1;
    const isChosen = box.key === selection.key, isHit = this.hits?.has(box.key);
    context.strokeStyle = isChosen || isHit ? chosen : kind === "g" ? css("--accent") : line;
    context.lineWidth = isChosen ? 3 : isHit ? 2 : 1;
    context.stroke();
    if (kind === "g") { // a second edge: there is more in it
      context.beginPath();
      context.roundRect(l + 3, t + 3, box.width - 6, box.height - 6, 3);
      context.lineWidth = 0.7;
      context.stroke();
    }
    if (isSmall) return;
    context.fillStyle = text;
    context.font = "600 12px system-ui, sans-serif";
    context.fillText(fitted(context, box.title, box.width - 18), l + 10, t + 18);
    context.globalAlpha = 0.75;
    context.font = "11px system-ui, sans-serif";
    context.fillText(fitted(context, box.small, box.width - 18), l + 10, t + 33);
    context.globalAlpha = 1;
  }

  curve(context, points) {
    context.moveTo(points[0].x, points[0].y);
    for (let at = 1; at < points.length - 1; at++) {
      const point = points[at], next = points[at + 1], isLast = at === points.length - 2;
      context.quadraticCurveTo(point.x, point.y, isLast ? next.x : (point.x + next.x) / 2, isLast ? next.y : (point.y + next.y) / 2);
    }
    if (points.length === 2) context.lineTo(points[1].x, points[1].y);
  }
}
