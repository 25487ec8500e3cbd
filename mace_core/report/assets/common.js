"use strict";
// What the parts of a page share: the data, elements, words for figures, the note at the pointer, canvases, themes.

const data = JSON.parse(document.getElementById("data").textContent);
const library = JSON.parse(document.getElementById("library").textContent);
const byId = (id) => document.getElementById(id);
const textOf = (number) => data.texts[number];

// Texts come from models: they are only ever set as text.
function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  const { className, text, ...attributes } = options;
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function dot(color) {
  const element = make("i", { className: "dot" });
  element.style.background = color;
  return element;
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function bytes(count) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (count >= size) return `${(count / size).toFixed(1)} ${unit}`;
  }
  return `${count} B`;
}

function milliseconds(value) {
  if (value >= 100) return `${value.toFixed(0)} ms`;
  return value >= 1 ? `${value.toFixed(2)} ms` : `${(value * 1000).toFixed(1)} µs`;
}

function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

// --- the note at the pointer ---

function showTip(event, title, text) {
  const tip = byId("tip");
  tip.replaceChildren(make("b", { text: title }), document.createTextNode(text));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  const below = event.clientY + 16;
  tip.style.top = `${Math.max(4, below + box.height > innerHeight ? event.clientY - box.height - 12 : below)}px`;
}
function hideTip() {
  byId("tip").hidden = true;
}

// --- canvases: drawn again when the size or the colors change, once a frame at most ---

const drawings = [];
function drawing(canvas, draw) {
  const made = { canvas, pending: false };
  made.redraw = () => {
    if (made.pending) return;
    made.pending = true;
    requestAnimationFrame(() => {
      made.pending = false;
      const scale = devicePixelRatio || 1;
      const width = canvas.clientWidth, height = canvas.clientHeight;
      if (!width || !height) return;
      if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
        canvas.width = Math.round(width * scale);
        canvas.height = Math.round(height * scale);
      }
      const context = canvas.getContext("2d");
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.clearRect(0, 0, width, height);
      context.font = "12px system-ui, sans-serif";
      draw(context, width, height);
    });
  };
  new ResizeObserver(made.redraw).observe(canvas);
  drawings.push(made);
  return made;
}
function redrawAll() {
  for (const made of drawings) made.redraw();
}

function fitted(context, text, width) {
  if (width < 14) return "";
  if (context.measureText(text).width <= width) return text;
  let low = 0, high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
    else high = middle - 1;
  }
  return low ? `${text.slice(0, low)}…` : "";
}

function ticks(from, to, count) {
  const rough = (to - from) / Math.max(count, 1);
  if (!(rough > 0)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let number = Math.ceil(from / step); number * step <= to; number++) found.push(number * step);
  return found;
}

// --- light and dark ---

function setUpThemes() {
  const buttons = [...document.querySelectorAll("[data-theme-choice]")];
  const choose = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme));
    redrawAll();
  };
  for (const button of buttons) button.onclick = () => choose(button.dataset.themeChoice);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  choose("auto");
}
