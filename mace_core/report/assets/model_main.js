// Puts the page of a model together: figures, problems, tables, search.

const HITS = 200;

function showHead() {
  byId("label").textContent = data.label;
  byId("signature").textContent = data.signature;
  byId("cards").replaceChildren(...data.cards.map(([figures, words]) =>
    make("div", { className: "card" }, make("b", { text: figures }), make("span", { text: words }))));
  byId("problems").replaceChildren(...data.problems.map(([severity, text, hint]) => {
    const item = make("li", { className: severity }, make("b", { text: severity }), text);
    if (hint) item.append(make("small", { text: hint }));
    return item;
  }));
  const shown = operators.slice(0, KIND_COLORS.length);
  byId("legend").replaceChildren(...shown.map(([op, count]) => make("span", {}, dot(opColor(op)), `${op} ×${count}`)));
  byId("footer").textContent = `Made by mace inspect ${data.version}; graph layout: ${library.version}. Colors are operators.`;
}

function showTables(search) {
  byId("tables").replaceChildren(...data.tables.map(({ title, columns, rows, pick }) => {
    const isNumber = columns.map((name) => name.startsWith("#"));
    const head = make("tr", {}, ...columns.map((name, at) => make("th", { className: isNumber[at] ? "number" : "", text: name.replace(/^#/, "") })));
    const body = rows.map((row) => {
      const line = make("tr", {}, ...row.map((text, at) => make("td", { className: isNumber[at] ? "number" : "", text })));
      if (pick) {
        line.className = "pick";
        line.title = "show its nodes";
        line.onclick = () => search(row[0]);
      }
      return line;
    });
    const box = make("div", { className: "table-box", tabindex: "0" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
    return make("section", { "aria-label": title }, make("h2", { text: title }), box);
  }));
}

// Each node once, with all that it is looked for by.
const haystack = nodes.map((node) => [node.name, node.op, node.origin, ...node.outputs.map((value) => values[value]?.name ?? "")].join("\n").toLowerCase());

function setUpSearch(view) {
  const field = byId("search"), list = byId("hits");
  let found = [], current = -1;
  const mark = (at) => {
    current = at;
    [...list.children].forEach((item, index) => item.setAttribute("aria-current", String(index === at)));
    list.children[at]?.scrollIntoView({ block: "nearest" });
    if (found[at] !== undefined) select(`n${found[at]}`);
  };
  const search = (text) => {
    field.value = text;
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    found = words.length ? nodes.map((node) => node.index).filter((index) => words.every((word) => haystack[index].includes(word))) : [];
    view.hits = new Set(found.map((index) => `n${index}`));
    view.drawing.redraw();
    byId("found").textContent = words.length ? `${found.length.toLocaleString("en")} of ${nodes.length.toLocaleString("en")}` : "";
    list.hidden = !found.length;
    list.replaceChildren(...found.slice(0, HITS).map((index, at) => {
      const { name, op, origin } = nodes[index];
      const button = make("button", { type: "button" }, `${op} ${name}`);
      if (origin) button.append(" ", make("small", { text: origin }));
      button.onclick = () => mark(at);
      return make("li", {}, button);
    }));
    current = -1;
  };
  field.oninput = () => search(field.value);
  field.onkeydown = (event) => {
    const shown = Math.min(found.length, HITS);
    if (event.key === "Escape") search("");
    else if (event.key === "ArrowDown" || event.key === "Enter") shown && mark((current + 1) % shown);
    else if (event.key === "ArrowUp") shown && mark((current - 1 + shown) % shown);
    else return;
    event.preventDefault();
  };
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches?.("input, select, textarea")) return;
    event.preventDefault();
    field.focus();
  });
  return search;
}

async function start() {
  setUpThemes();
  showHead();
  showDetails();
  const view = document.__view = new ModelView(byId("graph"), new GraphLayout(library.source));
  showTables(setUpSearch(view));
  await view.show(view.firstOpen());
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}
start();
