// F1 against sparsity: panels of lines with bands.

// By the logarithm of what is left, so that 90, 95 and 98 % do not lie on each other.
const distance = (sparsity) => -Math.log10(1 - Math.min(sparsity, 0.9999));

const pointOf = (variant, found) => ({ sparsity: variant.sparsity, percent: variant.series === null ? "dense" : variant.percent, ...found });

// The points of one group along one series, from dense on; what is missing is not there.
function curve(number, text, by, name) {
  const mine = variantsOf(number);
  const dense = variantById.get(mine.find((one) => one.dense !== null)?.dense);
  return [...(dense ? [dense] : []), ...mine].flatMap((variant) => {
    const found = groupOf(variant.id, text, by, name);
    return found?.f1 ? [pointOf(variant, found)] : [];
  });
}

// panels: [{title, note, lines: [{name, color, points}]}]. All have the same axes.
function drawLines(host, panels, small) {
  host.classList.toggle("small", small);
  if (!panels.some((panel) => panel.lines.length)) {
    host.replaceChildren(node("p", { class: "empty" }, "There is nothing to draw: no series is chosen, or it has no scores."));
    return;
  }
  const every = panels.flatMap((panel) => panel.lines.flatMap((line) => line.points));
  const [low, high] = range(every.flatMap(({ f1 }) => [f1.mean, f1.low, f1.high]).map((value) => value === null ? null : value / 1e4));
  const domain = [Math.max(low, Math.min(0, ...every.map(({ f1 }) => f1.mean / 1e4))), Math.min(high, 100)];
  const far = Math.max(...every.map((point) => distance(point.sparsity)), 0.01);
  const hosts = panels.map((panel) => node("div", { class: "panel" },
    node("h3", {}, named(panel.title), panel.note ? node("small", {}, ` ${panel.note}`) : null)));
  host.replaceChildren(...hosts);
  const width = widthOf(hosts[0]);
  hosts.forEach((one, index) => one.append(linePanel(panels[index], width, small ? 150 : 300, domain, far, small)));
}

function linePanel(panel, width, height, domain, far, small) {
  const [left, right, top, bottom] = [34, 10, 8, 22];
  const x = (sparsity) => scale(0, far, left + 6, width - right)(distance(sparsity));
  const y = scale(domain[0], domain[1], height - bottom, top);
  const stops = [...new Map(panel.lines.flatMap((line) => line.points)
    .map((point) => [point.sparsity.toFixed(4), point])).values()].sort((a, b) => a.sparsity - b.sparsity);
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  svg.append(...yAxis(ticks(domain[0], domain[1], small ? 4 : 6), y, left, width - right).flat());
  let taken = -Infinity;
  for (const stop of stops) {
    const label = stop.percent.replace("\u00a0%", "");
    const room = 3.6 * label.length;
    if (x(stop.sparsity) - room < taken + 4 || x(stop.sparsity) + room > width + 4) continue;
    taken = x(stop.sparsity) + room;
    svg.append(shape("text", { x: x(stop.sparsity), y: height - 5, "text-anchor": "middle" }, label));
  }
  for (const line of panel.lines) {
    const known = line.points.filter((point) => point.f1.low !== null && point.f1.high !== null);
    const put = (point, value) => `${x(point.sparsity).toFixed(1)},${y(Math.max(domain[0], Math.min(domain[1], value / 1e4))).toFixed(1)}`;
    const group = shape("g", { class: `color-${line.color % COLORS}` });
    if (known.length > 1) {
      const edge = [...known.map((point) => put(point, point.f1.high)), ...[...known].reverse().map((point) => put(point, point.f1.low))];
      group.append(shape("path", { class: "band", d: `M${edge.join("L")}Z` }));
    }
    group.append(shape("path", { class: "line", d: `M${line.points.map((point) => put(point, point.f1.mean)).join("L")}` }));
    group.append(...line.points.map((point) => mark(line.color, x(point.sparsity), y(point.f1.mean / 1e4), small ? 2.6 : 3.4)));
    svg.append(group);
  }
  const cross = shape("path", { class: "cross", visibility: "hidden" });
  svg.append(cross);
  return reader(panel, svg, cross, stops, x, [top, height - bottom]);
}

// Pointer and arrow keys go from one sparsity to the next; the tooltip has all lines there.
function reader(panel, svg, cross, stops, x, [top, bottom]) {
  const host = node("div", {
    role: "slider", tabindex: 0, "aria-label": `${panel.title}: F1 by sparsity`, "aria-valuemin": 0,
    "aria-valuemax": Math.max(0, stops.length - 1),
  }, svg);
  let index = stops.length - 1;
  const here = (line) => line.points.find((point) => Math.abs(point.sparsity - stops[index].sparsity) < 5e-5);
  const head = () => (stops[index].percent === "dense" ? "dense" : `${stops[index].percent} sparsity`);
  const words = () => {
    const found = panel.lines.map((line) => (here(line) ? `${line.name}: ${scoreWords(here(line))}` : null));
    return [head(), ...found.filter(Boolean)].join("; ");
  };
  const say = () => {
    host.setAttribute("aria-valuenow", index);
    host.setAttribute("aria-valuetext", words());
  };
  const content = () => {
    const lines = panel.lines.filter(here).sort((a, b) => here(b).f1.mean - here(a).f1.mean);
    return [node("strong", {}, named(panel.title), `, ${head()}`), node("table", {}, node("tbody", {}, lines.map((line) => {
      const { f1, change, verdict } = here(line);
      return row(node("span", {}, sample(line.color, false), " ", named(line.name)), `${points(f1.mean)} (${between(f1)})`,
        change ? `${points(change.mean, true)} ${signs[verdict] ?? ""}` : "");
    }))), node("span", { class: "more" }, over(lines.length ? here(lines[0]).f1 : null))];
  };
  const go = (to) => {
    index = Math.max(0, Math.min(stops.length - 1, to));
    const spot = x(stops[index].sparsity);
    cross.setAttribute("d", `M${spot},${top}V${bottom}`);
    cross.setAttribute("visibility", "visible");
    say();
    return spot;
  };
  const leave = () => {
    cross.setAttribute("visibility", "hidden");
    hideTip();
  };
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    const at = event.clientX - box.left;
    const near = stops.reduce((best, stop, number) =>
      (Math.abs(x(stop.sparsity) - at) < Math.abs(x(stops[best].sparsity) - at) ? number : best), 0);
    go(near);
    showTip(content(), event.clientX, event.clientY);
  };
  const showHere = () => {
    const spot = go(index);
    showTipBeside(content(), svg, (box) => [box.left + spot, box.top + box.height / 3]);
  };
  if (!stops.length) return host;
  say();
  host.addEventListener("pointermove", follow);
  host.addEventListener("pointerdown", follow);
  host.addEventListener("pointerleave", leave);
  host.addEventListener("focus", () => { if (host.matches(":focus-visible")) showHere(); });
  host.addEventListener("blur", leave);
  host.addEventListener("keydown", (event) => {
    const to = { ArrowRight: index + 1, ArrowUp: index + 1, ArrowLeft: index - 1, ArrowDown: index - 1, Home: 0, End: stops.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    index = Math.max(0, Math.min(stops.length - 1, to));
    showHere();
  });
  return host;
}

const chosenSeries = () => series.filter((one) => state.series.has(one.id));

function renderCurves() {
  const names = groupNames(state.by);
  const chosen = chosenSeries();
  const many = names.length > COLORS;
  const panelsAre = many || (state.by === "all" && chosen.length > 1) ? "groups" : state.panels;
  byId("curves-panels").hidden = many || state.by === "all";
  const title = (name) => (state.by === "all" ? "all languages" : name);
  const size = (name) => {
    const found = Math.max(0, ...variants.map((one) => groupOf(one.id, state.text, state.by, name)?.members ?? 0));
    return counted(found, "language", "languages");
  };
  const lines = (list) => list.filter((line) => line.points.length);
  const panels = panelsAre === "groups"
    ? names.map((name) => ({
      title: title(name), note: size(name),
      lines: lines(chosen.map((one) => ({ name: one.label, color: one.index, points: curve(one.id, state.text, state.by, name) }))),
    })).filter((panel) => panel.lines.length)
    : chosen.map((one) => ({
      title: one.label, note: "",
      lines: lines(names.map((name, color) => ({ name: title(name), color, points: curve(one.id, state.text, state.by, name) }))),
    }));
  drawLines(byId("curves"), panels, panels.length > 4);
  const samples = panelsAre === "groups"
    ? chosen.map((one) => [one.index, one.label])
    : names.map((name, color) => [color, title(name)]);
  byId("curves-legend").replaceChildren(...samples.map(([number, name]) => node("span", {}, sample(number), named(name))));
  byId("curves-shown").textContent = sentence([texts.get(state.text) ?? "no text"]);
  lineNumbers(byId("curves-numbers"), panels);
}

function lineNumbers(details, panels) {
  numbersTable(details, ["Panel", "Line", "Sparsity", "F1", "95 % interval", "Change", "95 % interval", "Verdict"], () =>
    panels.flatMap((panel) => panel.lines.flatMap((line) => line.points.map(({ percent, f1, change, verdict }) =>
      [panel.title, named(line.name), percent, points(f1.mean), between(f1), points(change?.mean, true), between(change, true), change ? wordsOf(verdict) : "–"]))));
}

function renderRobust() {
  const changed = [...texts.keys()].filter((kind) => kind !== "none");
  byId("robust-section").hidden = !changed.length;
  if (!changed.length) return;
  const [by, name] = state.robustGroup === "all" ? ["all", groupNames("all")[0]] : ["resource", state.robustGroup];
  const kinds = [...texts];
  const panels = chosenSeries().map((one) => ({
    title: one.label, note: "",
    lines: kinds.map(([kind, words], color) => ({ name: words, color, points: curve(one.id, kind, by, name) }))
      .filter((line) => line.points.length),
  }));
  drawLines(byId("robust"), panels, panels.length > 4);
  legend(byId("robust-legend"), kinds.map(([, words]) => words));
  lineNumbers(byId("robust-numbers"), panels);
}
