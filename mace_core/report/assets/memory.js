// Memory over time: what is alive during a run, and what the process holds.

const CHART_LEFT = 66, CHART_BOTTOM = 20;

function chart(canvas, { end, top, unit, draw, marks, tell }) {
  canvas.style.height = "150px";
  const made = drawing(canvas, (context, width, height) => {
    const faint = css("--faint"), line = css("--line");
    const wide = width - CHART_LEFT - 8, tall = height - CHART_BOTTOM - 8;
    const x = (time) => CHART_LEFT + (time / end) * wide, y = (size) => 8 + tall * (1 - size / top);
    context.font = "11px system-ui, sans-serif";
    context.strokeStyle = line;
    for (const size of [0, top / 2, top]) {
      context.beginPath();
      context.moveTo(CHART_LEFT, Math.round(y(size)) + 0.5);
      context.lineTo(width - 8, Math.round(y(size)) + 0.5);
      context.stroke();
      context.fillStyle = faint;
      context.textAlign = "right";
      context.fillText(bytes(Math.round(size)), CHART_LEFT - 6, y(size) + 4);
    }
    context.textAlign = "center";
    for (const tick of ticks(0, end, wide / 90)) if (x(tick) < width - 28) context.fillText(unit(tick), x(tick), height - 5);
    context.textAlign = "left";
    draw(context, x, y);
    (marks ?? []).forEach(([time, text], number) => {
      context.strokeStyle = faint;
      context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(x(time), 8);
      context.lineTo(x(time), 8 + tall);
      context.stroke();
      context.setLineDash([]);
      const next = number + 1 < marks.length ? x(marks[number + 1][0]) : width;
      if (x(time) + 8 + context.measureText(text).width > next) return;
      context.fillStyle = faint;
      context.fillText(text, x(time) + 3, 18);
    });
  });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const time = ((event.clientX - box.left - CHART_LEFT) / (box.width - CHART_LEFT - 8)) * end;
    if (time < 0 || time > end) return hideTip();
    showTip(event, unit(time), tell(time));
  });
  canvas.addEventListener("pointerleave", hideTip);
  return made;
}

function lastAtOrBefore(times, time) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= time) low = middle + 1;
    else high = middle;
  }
  return Math.max(low - 1, 0);
}

function drawMemory() {
  const memory = data.memory, times = memory.us, names = Object.keys(memory.alive);
  const color = (name) => name === "inputs" ? OTHER : deviceColor(name);
  const end = Math.max(times[times.length - 1] ?? 1, 1e-3), top = Math.max(memory.peak * 1.05, 1);
  chart(byId("alive"), {
    end, top, unit: (us) => milliseconds(us / 1000).replace(/\.0+(?= )/, ""),
    tell: (us) => {
      const at = lastAtOrBefore(times, us);
      return names.map((name) => `${name}: ${bytes(memory.alive[name][at])}`).join("\n");
    },
    draw: (context, x, y) => {
      const base = new Float64Array(times.length);
      for (const name of names) {
        const stairs = memory.alive[name];
        context.beginPath();
        for (let at = 0; at < times.length; at++) {
          context.lineTo(x(times[at]), y(base[at] + stairs[at]));
          if (at + 1 < times.length) context.lineTo(x(times[at + 1]), y(base[at] + stairs[at]));
        }
        for (let at = times.length - 1; at >= 0; at--) {
          if (at + 1 < times.length) context.lineTo(x(times[at + 1]), y(base[at]));
          context.lineTo(x(times[at]), y(base[at]));
        }
        context.fillStyle = color(name);
        context.globalAlpha = 0.75;
        context.fill();
        context.globalAlpha = 1;
        for (let at = 0; at < times.length; at++) base[at] += stairs[at];
      }
    },
  });
  byId("alive-legend").replaceChildren(...names.map((name) => make("span", {}, dot(color(name)), name)));

  const rss = memory.rss, most = rss.reduce((found, [, size]) => Math.max(found, size), 1);
  const moments = rss.map(([time]) => time);
  chart(byId("rss"), {
    end: Math.max(moments[moments.length - 1] ?? 1, 1e-3), top: most * 1.2, unit: (ms) => ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`,
    marks: memory.marks,
    tell: (ms) => bytes(rss[lastAtOrBefore(moments, ms)][1]),
    draw: (context, x, y) => {
      context.strokeStyle = css("--accent");
      context.lineWidth = 1.6;
      context.beginPath();
      for (const [time, size] of rss) context.lineTo(x(time), y(size));
      context.stroke();
      context.lineWidth = 1;
    },
  });
  const facts = [`at most ${bytes(memory.peak)} of inputs and results alive at once`];
  for (const [location, size, least] of memory.arenas) facts.push(`arena of ${location}: ${bytes(size)} (no plan could do with less than ${bytes(least)})`);
  facts.push(`weights: ${bytes(memory.weights)}`, `resident at most: ${bytes(most)}`);
  if (memory.unsized) facts.push(`${plural(memory.unsized, "value")} whose size only a run tells left out`);
  byId("memory-facts").textContent = facts.join(" · ");
}
