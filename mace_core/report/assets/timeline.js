// What each device and thread did when, of one run.

const ROW = 26, LEFT_WIDE = 150, LEFT_SMALL = 84, AXIS = 22;

class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.drawing = drawing(canvas, (context, width, height) => this.draw(context, width, height));
    this.view = new Viewport(canvas, { redraw: () => this.drawing.redraw(), vertical: false });
    this.view.clamp = () => {
      this.view.x = Math.min(0, Math.max(this.view.x, this.width * (1 - this.view.scale)));
    };
    this.view.limits = [1, 4000];
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", hideTip);
    canvas.addEventListener("click", (event) => {
      const box = this.view.moved ? undefined : this.hit(event);
      if (box && box.step >= 0) selectStep(box.step);
    });
    byId("timeline-in").onclick = () => this.view.zoom(1.6);
    byId("timeline-out").onclick = () => this.view.zoom(1 / 1.6);
    byId("timeline-fit").onclick = () => this.show(this.run);
    selectionListeners.push(() => this.drawing.redraw());
  }

  get left() {
    return this.canvas.clientWidth < 520 ? LEFT_SMALL : LEFT_WIDE;
  }

  get width() {
    return Math.max(this.canvas.clientWidth - this.left - 10, 1);
  }

  show(run) {
    this.run = run;
    this.rows = run.tracks.map(([device, track]) => ({ device, track, boxes: [], busy: 0 }));
    for (const [row, step, start, length, kind] of run.boxes) {
      this.rows[row].boxes.push({ step, start, length, kind: textOf(kind) });
      this.rows[row].busy += length;
    }
    for (const row of this.rows) {
      let longest = 0;
      for (const box of row.boxes) longest = Math.max(longest, box.length);
      row.longest = longest;
    }
    this.view.x = 0;
    this.view.scale = 1;
    this.canvas.style.height = `${AXIS + this.rows.length * ROW + 6}px`;
    this.drawing.redraw();
  }

  // From microseconds to pixels.
  x(us) {
    return this.left + this.view.x + (us / this.run.us) * this.width * this.view.scale;
  }

  us(x) {
    return ((x - this.left - this.view.x) / (this.width * this.view.scale)) * this.run.us;
  }

  // The first box of a row that may reach beyond a moment.
  from(row, us) {
    let low = 0, high = row.boxes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (row.boxes[middle].start < us - row.longest) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  hit(event) {
    const [x, y] = this.view.at(event);
    const row = this.rows[Math.floor((y - AXIS) / ROW)];
    if (!row || x < this.left) return undefined;
    const at = this.us(x), near = Math.abs(this.us(x + 1) - at);
    for (let number = this.from(row, at); number < row.boxes.length; number++) {
      const box = row.boxes[number];
      if (box.start > at + near) return undefined;
      if (box.start + Math.max(box.length, near) >= at) return { ...box, row };
    }
    return undefined;
  }

  hover(event) {
    const box = this.view.isDragging ? undefined : this.hit(event);
    if (!box) return hideTip();
    const step = steps[box.step];
    const where = `${box.row.device} ${box.row.track}`.trim();
    const what = `${where}\n${milliseconds(box.length / 1000)}, from ${milliseconds(box.start / 1000)}`;
    showTip(event, step ? step.name : box.kind, step ? `${what}\n${step.kind}${step.shape ? `\n${step.shape}` : ""}` : what);
  }

  draw(context, width, height) {
    if (!this.run) return;
    const faint = css("--faint"), line = css("--line"), text = css("--text"), chosen = css("--chosen");
    const right = this.left + this.width;
    context.fillStyle = faint;
    context.textAlign = "center";
    context.font = "11px system-ui, sans-serif";
    for (const tick of ticks(Math.max(this.us(this.left), 0), this.us(right), this.width / 90)) {
      const x = Math.round(this.x(tick)) + 0.5;
      context.strokeStyle = line;
      context.beginPath();
      context.moveTo(x, AXIS - 4);
      context.lineTo(x, height);
      context.stroke();
      const label = tick ? milliseconds(tick / 1000).replace(/\.0+(?= )/, "") : "0";
      if (x + 28 < width) context.fillText(label, x, AXIS - 8);
    }
    context.textAlign = "left";
    this.rows.forEach((row, number) => {
      const top = AXIS + number * ROW + 3, tall = ROW - 6;
      context.fillStyle = deviceColor(row.device);
      context.fillRect(4, top, 4, tall);
      context.fillStyle = text;
      const busy = ` ${Math.round((row.busy / this.run.us) * 100)}%`;
      const label = row.track ? `${row.device} ${row.track}` : row.device;
      const room = this.left - 16 - context.measureText(busy).width;
      const shown = fitted(context, context.measureText(label).width <= room ? label : row.track || row.device, room);
      context.fillText(shown, 12, top + 14);
      context.fillStyle = faint;
      context.fillText(busy, 12 + context.measureText(shown).width, top + 14);
      context.save();
      context.beginPath();
      context.rect(this.left, 0, this.width, height);
      context.clip();
      let done = -1;
      for (let at = this.from(row, this.us(this.left)); at < row.boxes.length; at++) {
        const box = row.boxes[at], x = this.x(box.start);
        if (x > right) break;
        const end = Math.max(this.x(box.start + box.length), x + 0.6);
        const isChosen = box.step >= 0 && box.step === selection.step;
        if (end < done + 0.4 && !isChosen) continue;
        done = end;
        context.fillStyle = isChosen ? chosen : kindColor(box.kind);
        context.fillRect(x, top, isChosen ? Math.max(end - x, 2) : end - x, tall);
        if (end - x > 5) {
          context.strokeStyle = "#0003";
          context.strokeRect(x + 0.5, top + 0.5, end - x - 1, tall - 1);
        }
        if (end - x > 34) {
          context.fillStyle = "#101418";
          context.fillText(fitted(context, box.kind, end - Math.max(x, this.left) - 8), Math.max(x, this.left) + 4, top + 14);
        }
      }
      context.restore();
    });
  }
}

// Operators by the time they take: the first have colors of their own.
function giveKindsColors() {
  const spent = new Map();
  for (const step of steps) spent.set(step.kind, (spent.get(step.kind) ?? 0) + step.ms);
  const ordered = [...spent].sort((a, b) => b[1] - a[1]);
  const total = ordered.reduce((sum, [, ms]) => sum + ms, 0) || 1;
  ordered.slice(0, KIND_COLORS.length).forEach(([kind], at) => kindColors.set(kind, KIND_COLORS[at]));
  const shown = ordered.slice(0, 8).map(([kind, ms]) => make("span", { title: kind }, dot(kindColor(kind)),
    `${kind.length > 34 ? `${kind.slice(0, 33)}…` : kind} ${((ms / total) * 100).toFixed(0)}%`));
  if (ordered.length > 8) shown.push(make("span", { text: `and ${ordered.length - 8} more` }));
  byId("kinds").replaceChildren(...shown);
}
