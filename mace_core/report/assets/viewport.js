// Moving and zooming what a canvas shows: pointer, wheel (with Ctrl, or once the canvas has the focus), two fingers, keys.

class Viewport {
  constructor(canvas, { redraw, vertical }) {
    this.canvas = canvas;
    this.redraw = redraw;
    this.vertical = vertical;
    this.x = 0;
    this.y = 0;
    this.scale = 1;
    this.limits = [0.02, 3];
    this.clamp = () => {};
    this.moved = false;
    this.pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  get isDragging() {
    return this.pointers.size > 0 && this.moved;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  toWorld([x, y]) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  zoom(factor, [x, y] = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]) {
    const scale = Math.min(Math.max(this.scale * factor, this.limits[0]), this.limits[1]);
    const real = scale / this.scale;
    this.x = x - (x - this.x) * real;
    this.y = y - (y - this.y) * real;
    this.scale = scale;
    this.clamp();
    this.redraw();
  }

  pan(x, y) {
    this.x += x;
    if (this.vertical) this.y += y;
    this.clamp();
    this.redraw();
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    if (this.pointers.size === 1) this.moved = false;
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (!last) return;
    const now = this.at(event);
    if (this.pointers.size === 1) {
      if (!this.moved && Math.hypot(now[0] - last[0], now[1] - last[1]) < 4) return;
      this.moved = true;
      this.pan(now[0] - last[0], now[1] - last[1]);
    } else if (this.pointers.size === 2) {
      this.moved = true;
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(last[0] - other[0], last[1] - other[1]);
      const after = Math.hypot(now[0] - other[0], now[1] - other[1]);
      if (before > 0) this.zoom(after / before, [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
    }
    this.pointers.set(event.pointerId, now);
  }

  wheel(event) {
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.canvas) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.at(event));
  }

  key(event) {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    if (event.key === "+" || event.key === "=") this.zoom(1.3);
    else if (event.key === "-") this.zoom(1 / 1.3);
    else if (moves[event.key]) this.pan(...moves[event.key]);
    else return;
    event.preventDefault();
  }
}
