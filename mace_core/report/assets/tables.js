// Tables of any length: only the rows in sight are elements.

const ROW_HEIGHT = 28, SPARE_ROWS = 12;

class VirtualTable {
  // columns: { title, value(row) for sorting, text(row) or cell(row), isNumber }
  constructor(box, columns, rows, { isChosen, choose }) {
    Object.assign(this, { box, columns, rows, shown: rows, isChosen, choose, sorted: -1, isDown: false, first: -1 });
    this.heads = columns.map((column, at) => {
      const head = make("th", { scope: "col", className: column.isNumber ? "number" : "" });
      const button = make("button", { type: "button", text: column.title });
      button.onclick = () => this.sort(at);
      head.append(button);
      return head;
    });
    this.body = make("tbody");
    box.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...this.heads)), this.body));
    box.addEventListener("scroll", () => this.render());
    new ResizeObserver(() => this.render(true)).observe(box);
  }

  filter(keep) {
    this.kept = keep;
    this.arrange();
  }

  sort(at, isDown = this.sorted === at ? !this.isDown : Boolean(this.columns[at].isNumber)) {
    this.sorted = at;
    this.isDown = isDown;
    this.heads.forEach((head, number) => {
      if (number === at) head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
      head.firstChild.textContent = this.columns[number].title + (number === at ? (isDown ? " ↓" : " ↑") : "");
    });
    this.arrange();
  }

  arrange() {
    this.shown = this.kept ? this.rows.filter(this.kept) : [...this.rows];
    if (this.sorted >= 0) {
      const { value } = this.columns[this.sorted], sign = this.isDown ? -1 : 1;
      this.shown.sort((a, b) => {
        const left = value(a), right = value(b);
        if (left === null || right === null) return (left === null) - (right === null);
        return sign * (typeof left === "number" ? left - right : left.localeCompare(right));
      });
    }
    this.render(true);
  }

  render(isForced = false) {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
    const last = Math.min(this.shown.length, first + Math.ceil((this.box.clientHeight || 460) / ROW_HEIGHT) + 2 * SPARE_ROWS);
    if (!isForced && first === this.first && last === this.last) return;
    this.first = first;
    this.last = last;
    const rows = this.shown.slice(first, last).map((row) => {
      const line = make("tr", { className: `row${this.isChosen(row) ? " chosen" : ""}` });
      for (const column of this.columns) {
        const cell = make("td", { className: column.isNumber ? "number" : "" });
        if (column.cell) cell.append(...column.cell(row));
        else cell.textContent = column.text(row);
        if (!column.isNumber) cell.title = cell.textContent;
        line.append(cell);
      }
      line.onclick = () => this.choose(row);
      return line;
    });
    this.body.replaceChildren(this.space(first), ...rows, this.space(this.shown.length - last));
  }

  space(count) {
    const cell = make("td", { colspan: String(this.columns.length) });
    cell.style.height = `${count * ROW_HEIGHT}px`;
    return make("tr", { className: "space" }, cell);
  }

  reveal(row) {
    const at = this.shown.indexOf(row);
    if (at < 0) return this.render(true);
    const top = at * ROW_HEIGHT;
    if (top < this.box.scrollTop || top > this.box.scrollTop + this.box.clientHeight - 2 * ROW_HEIGHT) {
      this.box.scrollTop = Math.max(0, top - this.box.clientHeight / 2);
    }
    this.render(true);
  }
}

function figure(value, digits) {
  return value === null ? "" : value.toFixed(digits);
}

function showSteps() {
  const total = steps.reduce((sum, step) => sum + step.ms, 0) || 1;
  const speed = (step) => step.macs && step.ms ? step.macs / step.ms / 1e6 : null;
  const word = (title, of) => ({ title, value: of, text: of });
  const number = (title, of, digits) => ({ title, value: of, text: (step) => figure(of(step), digits), isNumber: true });
  const columns = [
    { title: "#", value: (step) => step.index, text: (step) => String(step.index), isNumber: true },
    word("operation", (step) => step.name),
    { title: "type", value: (step) => step.kind, cell: (step) => [dot(kindColor(step.kind)), step.kind] },
    word("shape", (step) => step.shape),
    { title: "device", value: (step) => step.device, cell: (step) => [dot(deviceColor(step.device)), step.device] },
    number("ms", (step) => step.ms, 4),
    number("%", (step) => (step.ms / total) * 100, 1),
    number("MMAC", (step) => step.macs ? step.macs / 1e6 : null, 2),
    number("GMAC/s", speed, 1),
    number("% of peak", (step) => step.share === null ? null : step.share * 100, 0),
  ];
  const table = new VirtualTable(byId("steps"), columns, steps, {
    isChosen: (step) => step.index === selection.step,
    choose: (step) => selectStep(step.index),
  });
  const told = () => {
    byId("found").textContent = table.shown.length === steps.length ? plural(steps.length, "step") : `${table.shown.length} of ${plural(steps.length, "step")}`;
  };
  byId("search").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    table.filter((step) => {
      const text = [step.name, step.kind, step.shape, step.device, ...step.nodes].join("\n").toLowerCase();
      return words.every((each) => text.includes(each));
    });
    told();
  });
  table.sort(5, true);
  told();
  selectionListeners.push(() => table.reveal(steps[selection.step]));
}

function showCosts() {
  const rows = data.partitions.map(([device, count, predicted, measured, scope], index) => ({
    index, device, count, predicted, measured, scope, ratio: predicted && measured ? measured / predicted : null,
  }));
  const most = Math.max(...rows.map((row) => Math.max(row.predicted ?? 0, row.measured ?? 0)), 1e-12);
  const seconds = (title, of) => ({
    title, value: of, isNumber: true,
    cell: (row) => {
      if (of(row) === null) return ["–"];
      const gauge = make("meter", { min: "0", max: String(most), value: String(of(row)) });
      return [gauge, ` ${milliseconds(of(row) * 1000)}`];
    },
  });
  const columns = [
    { title: "partition", value: (row) => row.index, text: (row) => String(row.index), isNumber: true },
    { title: "device", value: (row) => row.device, cell: (row) => [dot(deviceColor(row.device)), row.device] },
    { title: "nodes", value: (row) => row.count, text: (row) => String(row.count), isNumber: true },
    seconds("predicted", (row) => row.predicted),
    seconds("measured", (row) => row.measured),
    { title: "measured / predicted", value: (row) => row.ratio, text: (row) => figure(row.ratio, 2), isNumber: true },
    { title: "within", value: (row) => row.scope, text: (row) => row.scope },
  ];
  const table = new VirtualTable(byId("costs"), columns, rows, {
    isChosen: (row) => selection.node >= 0 && nodes[selection.node].partition === row.index,
    choose: (row) => {
      const first = nodes.find((node) => node.partition === row.index);
      if (first) selectNode(first.index);
    },
  });
  table.arrange();
  selectionListeners.push(() => table.render(true));
  byId("choices").replaceChildren(...data.choices.map((text) => make("li", { text })));
  const facts = [];
  if (!rows.some((row) => row.predicted !== null)) facts.push("No cost was predicted: the order of the devices, not cost, decided the placement.");
  const moved = data.transfers.reduce((sum, [, , , size]) => sum + size, 0);
  if (data.transfers.length) facts.push(`${plural(data.transfers.length, "transfer")} between memories, ${bytes(moved)} a run.`);
  byId("costs-facts").textContent = facts.join(" ");
}
