// Languages as points: change against size, changed against unchanged text, one model against another.

const SIZE = 4.5;

// points: [{language, x, y, kind, xs?, ys?, tip, words}]; xs and ys are intervals.
function drawScatter(host, items, { xLabel, yLabel, log = false, diagonal = null, zero = false, title }) {
  if (!items.length) {
    host.replaceChildren(node("p", { class: "empty" }, "There is nothing to draw for this choice."));
    return;
  }
  const width = widthOf(host);
  const height = Math.round(Math.min(460, Math.max(280, width * (diagonal ? 0.85 : 0.72))));
  const [left, right, top, bottom] = [42, 14, 22, 42];
  const of = (value) => (log ? Math.log10(value) : value);
  let xs = range(items.flatMap((one) => [of(one.x), ...(one.xs ?? [])]), 0.06);
  let ys = yRange(items, zero);
  if (diagonal) xs = ys = diagonal;
  const x = scale(xs[0], xs[1], left, width - right);
  const y = scale(ys[0], ys[1], height - bottom, top);
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": title });
  svg.append(...yAxis(ticks(ys[0], ys[1], 6), y, left, width - right).flat());
  let taken = -Infinity;
  for (const [value, label] of log ? logTicks(xs) : ticks(xs[0], xs[1], width / 90).map((one) => [one, tickText(one)])) {
    const room = 3.6 * label.length;
    if (x(value) - room < taken + 8) continue;
    taken = x(value) + room;
    svg.append(shape("path", { class: "grid", d: `M${x(value).toFixed(1)},${top}V${height - bottom}` }),
      shape("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, label));
  }
  svg.append(shape("text", { class: "axis", x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }, xLabel),
    shape("text", { class: "axis", x: 0, y: 11 }, yLabel));
  if (zero) svg.append(shape("path", { class: "zero", d: `M${left},${y(0)}H${width - right}` }));
  if (diagonal) svg.append(shape("path", { class: "zero", d: `M${x(xs[0])},${y(xs[0])}L${x(xs[1])},${y(xs[1])}` }));
  const placed = spread(items.map((item) => ({ item, cx: x(of(item.x)), cy: y(item.y) })), log, [left + SIZE, width - right - SIZE]);
  for (const { item, cx, cy } of placed) {
    const parts = [];
    if (item.ys && item.ys[0] !== null) parts.push(`M${cx.toFixed(1)},${y(inside(item.ys[0], ys)).toFixed(1)}V${y(inside(item.ys[1], ys)).toFixed(1)}`);
    if (item.xs && item.xs[0] !== null) parts.push(`M${x(inside(item.xs[0], xs)).toFixed(1)},${cy.toFixed(1)}H${x(inside(item.xs[1], xs)).toFixed(1)}`);
    if (parts.length) svg.append(shape("g", { class: item.color }, shape("path", { class: "whisker", d: parts.join("") })));
  }
  const groups = placed.map(({ item, cx, cy }) => {
    const group = shape("g", { class: item.color, role: "img", tabindex: -1, "aria-label": `${item.language.name}: ${item.words}` },
      shape("circle", { class: "ring", cx, cy, r: SIZE + 4 }), mark(item.form, cx, cy, SIZE, item.open));
    svg.append(group);
    return group;
  });
  svg.append(...tags(placed, width, top, height - bottom));
  host.replaceChildren(svg);
  moveInScatter(svg, placed, groups);
}

const inside = (value, [low, high]) => Math.min(high, Math.max(low, value));

// Intervals of a few languages with little text would press all points together, so they are cut.
function yRange(items, zero) {
  const [low, high] = range([...items.map((one) => one.y), ...(zero ? [0] : [])], 0);
  const most = 0.35 * (high - low || 1);
  const ends_ = items.flatMap((one) => one.ys ?? []).map((value) => inside(value, [low - most, high + most]));
  return range([low, high, ...ends_]);
}

function logTicks([low, high]) {
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    for (const digit of high - low > 4 ? [1] : [1, 2, 5]) {
      const value = digit * 10 ** power;
      if (Math.log10(value) >= low && Math.log10(value) <= high) found.push([Math.log10(value), short(value)]);
    }
  }
  return found;
}
const short = (value) => (value >= 1e9 ? `${value / 1e9} G` : value >= 1e6 ? `${value / 1e6} M` : thousands(value));

// Sideways, out of each other's way: many languages have the same number of sentences.
function spread(placed, sideways, [from, to]) {
  if (!sideways) return placed;
  const done = [];
  for (const point of [...placed].sort((a, b) => a.cy - b.cy || compare(a.item.language.key, b.item.language.key))) {
    const room = (cx) => (cx < from || cx > to ? -1 : Math.min(2 * SIZE + 1, ...done.map((other) => Math.hypot(other.cx - cx, other.cy - point.cy))));
    // The first place that is free, or where it overlaps least. Not far: that would be another size.
    const cx = [0, 5, -5, 10, -10, 15, -15].map((step) => point.cx + step).reduce((a, b) => (room(b) > room(a) ? b : a));
    done.push({ ...point, cx });
  }
  return done;
}

// Codes beside the points that have room for it, the outermost first.
function tags(placed, width, top, bottom) {
  const middle = placed.reduce((sum, { cy }) => sum + cy, 0) / placed.length;
  const boxes = placed.map(({ cx, cy }) => [cx - SIZE, cy - SIZE, cx + SIZE, cy + SIZE]);
  const found = [];
  for (const { item, cx, cy } of [...placed].sort((a, b) => Math.abs(b.cy - middle) - Math.abs(a.cy - middle))) {
    const text = item.language.code.length > 8 ? `${[...item.language.code].slice(0, 7).join("")}…` : item.language.code;
    const wide = 7 * text.length;
    const place = [[cx + SIZE + 2, cy - 6], [cx - SIZE - 2 - wide, cy - 6], [cx - wide / 2, cy - SIZE - 13], [cx - wide / 2, cy + SIZE + 1]]
      .map(([left, up]) => [left, up, left + wide, up + 12])
      .find(([left, up, right, down]) => left > 0 && right < width && up > top - 12 && down < bottom + 4 &&
        boxes.every((box) => box[2] <= left || box[0] >= right || box[3] <= up || box[1] >= down));
    if (!place) continue;
    boxes.push(place);
    found.push(shape("text", { class: "tag", x: (place[0] + place[2]) / 2, y: place[1] + 10, "text-anchor": "middle", "aria-hidden": "true" }, text));
  }
  return found;
}

function moveInScatter(svg, placed, groups) {
  const order = placed.map((_, index) => index).sort((a, b) => placed[a].cx - placed[b].cx || placed[a].cy - placed[b].cy);
  let here = order[0];
  groups[here].setAttribute("tabindex", 0);
  const content = (index) => [node("strong", {}, named(placed[index].item.language.name)), ...placed[index].item.tip()];
  const near = (index) => groups.forEach((group, number) => group.classList.toggle("near", number === index));
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const far = (index) => Math.hypot(placed[index].cx - (event.clientX - box.left), placed[index].cy - (event.clientY - box.top));
    const best = order.reduce((a, b) => (far(b) < far(a) ? b : a));
    near(far(best) < 28 ? best : -1);
    if (far(best) < 28) showTip(content(best), event.clientX, event.clientY);
    else hideTip();
  });
  svg.addEventListener("pointerleave", () => { near(-1); hideTip(); });
  groups.forEach((group, index) => group.addEventListener("focus", () => {
    if (group.matches(":focus-visible")) showTipBeside(content(index), group);
  }));
  svg.addEventListener("focusout", hideTip);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const place = order.indexOf(here);
    const to = event.key === "Home" ? 0 : event.key === "End" ? order.length - 1 : step ? place + step : null;
    if (to === null || to < 0 || to >= order.length) return;
    event.preventDefault();
    groups[here].setAttribute("tabindex", -1);
    here = order[to];
    groups[here].setAttribute("tabindex", 0);
    groups[here].focus();
  });
}

const ends = (part) => (part.low === null ? null : [part.low / 1e4, part.high / 1e4]);

const againsts = {
  train: ["fine-tuning sentences", (one) => one.train, true],
  wikipedia_bytes: ["bytes of Wikipedia", (one) => one.wikipedia_bytes, true],
  dense_f1: ["F1 of dense", (_, dense) => (dense?.f1 ? dense.f1.mean / 1e4 : null), false],
};

function verdictLegend(host) {
  host.replaceChildren(...[["lower", "lower", 4], ["higher", "higher", 2], ["same", "not distinguishable, or no interval", 0]].map(([kind, words, form]) =>
    node("span", {}, shape("svg", { width: 14, height: 14, class: `color-${kind}`, "aria-hidden": "true" }, mark(form, 7, 7, 4, kind === "same")), words)));
}
const looks = (verdict) => ({
  color: `color-${verdict === "lower" || verdict === "higher" ? verdict : "same"}`,
  form: { lower: 4, higher: 2 }[verdict] ?? 0,
  open: verdict !== "lower" && verdict !== "higher",
});

function renderSize() {
  const variant = current();
  const [words, value, log] = againsts[state.against];
  const items = !variant || variant.dense === null ? [] : shownLanguages().flatMap((language) => {
    const found = cellOf(variant.id, state.text, language);
    const dense = cellOf(variant.dense, state.text, language);
    const x = value(language, dense);
    if (!found?.change || x === null || (log && !(x > 0))) return [];
    return [{
      language, x, y: found.change.mean / 1e4, ys: ends(found.change), ...looks(found.verdict), found, dense,
      words: `${words} ${shownNumber(x)}, ${scoreWords(found)}`,
      tip: () => [node("span", { class: "more" }, `${words}: ${shownNumber(x)}`), scoreRows(found, dense)],
    }];
  });
  drawScatter(byId("size"), items, {
    xLabel: words + (log ? " (logarithmic)" : ""), yLabel: "change to dense, points", log, zero: true,
    title: `Change to dense against ${words}, by language`,
  });
  verdictLegend(byId("size-legend"));
  byId("size-shown").textContent = shownText();
  byId("size-finding").textContent = finding(words);
  numbersTable(byId("size-numbers"), ["Language", words, "Change", "95 % interval", "Verdict"], () => items.map((one) =>
    [one.language.name, shownNumber(one.x), points(one.found.change.mean, true), between(one.found.change, true), wordsOf(one.found.verdict)]));
}

const shownNumber = (value) => (Number.isInteger(value) ? thousands(value) : value.toFixed(1));

// The correlation is that of the analysis: over all languages, on the text as it is.
function finding(words) {
  const found = correlations.find((one) => one.variant === state.variant && one.against === state.against);
  if (!found || found.rho === null) return `No correlation with ${words} is known of this variant.`;
  const number = (value) => (value / 1e6).toFixed(2).replace("-", "−");
  const ends_ = found.low === null ? "no interval" : `95\u00a0% interval ${number(found.low)} to ${number(found.high)}`;
  const told = found.verdict === "not distinguishable" ? ", not distinguishable from none" : "";
  return `Spearman correlation with ${words}: ${number(found.rho)} (${ends_}), ` +
    `all ${counted(found.count, "language", "languages")}, text as it is${told}.`;
}

// Two panels, dense and the variant: one score of a language against another.
function drawPairs(host, panels, options) {
  const hosts = panels.map((panel) => node("div", { class: "panel" }, node("h3", {}, named(panel.title)), node("div", {})));
  host.replaceChildren(...hosts);
  // One range for both axes of both panels: the diagonal is where the scores are the same.
  const diagonal = range(panels.flatMap((panel) => panel.items.flatMap((one) => [one.x, one.y])), 0.08);
  panels.forEach((panel, index) => drawScatter(hosts[index].lastChild, panel.items, { ...options, diagonal, title: `${panel.title}: ${options.yLabel} against ${options.xLabel}` }));
}

function pairItems(first, second, names) {
  const resources = groupNames("resource");
  return shownLanguages().flatMap((language) => {
    const [x, y] = [first(language), second(language)];
    if (!x?.f1 || !y?.f1) return [];
    const form = Math.max(0, resources.indexOf(language.resource));
    return [{
      language, form, color: `color-${form % COLORS}`, open: false, x: x.f1.mean / 1e4, y: y.f1.mean / 1e4, xs: ends(x.f1), ys: ends(y.f1),
      words: `${names[0]} ${points(x.f1.mean)}, ${names[1]} ${points(y.f1.mean)}`,
      tip: () => [node("table", {}, node("tbody", {}, row(names[0], `${points(x.f1.mean)} (${between(x.f1)})`),
        row(names[1], `${points(y.f1.mean)} (${between(y.f1)})`), row("Difference", points(y.f1.mean - x.f1.mean, true))))],
    }];
  });
}

function renderRobustEach() {
  const kind = state.robustText;
  const variant = current();
  if (!kind || !variant) return;
  const words = ["text as it is", "changed text"];
  const dense = variantById.get(variant.dense);
  const panels = [...(dense ? [dense] : []), variant].map((one) => ({
    title: one.label,
    items: pairItems((language) => cellOf(one.id, "none", language), (language) => cellOf(one.id, kind, language), words),
  }));
  drawPairs(byId("robust-each"), panels, { xLabel: "F1, text as it is", yLabel: "F1, changed text" });
  legend(byId("robust-each-legend"), groupNames("resource").map((name) => `${name} sentences`), false);
  byId("robust-shown").textContent = sentence([texts.get(kind), shownCount()]);
}

// Pairs of variants that differ in nothing but the setting.
const pairs = variants.filter((one) => one.setting === "monolingual").flatMap((mono) => {
  const multi = variants.find((one) => one.setting === "multilingual" && one.pair === mono.pair && Math.abs(one.sparsity - mono.sparsity) < 0.005);
  return multi ? [{ mono, multi, label: mono.series === null ? "dense" : mono.label }] : [];
});

function renderMono() {
  byId("mono-section").hidden = !pairs.length;
  if (!pairs.length) return;
  const chosen = pairs[state.pair];
  const dense = pairs.find((pair) => pair.mono.id === chosen.mono.dense);
  const words = ["one for all", "one for each"];
  const panels = (dense && dense !== chosen ? [dense, chosen] : [chosen]).map((pair) => ({
    title: pair.label, pair,
    items: pairItems((language) => cellOf(pair.multi.id, state.text, language), (language) => cellOf(pair.mono.id, state.text, language), words),
  }));
  drawPairs(byId("mono"), panels, { xLabel: "F1, one model for all languages", yLabel: "F1, one model for each" });
  legend(byId("mono-legend"), groupNames("resource").map((name) => `${name} sentences`), false);
  byId("mono-shown").textContent = sentence([texts.get(state.text) ?? "no text", shownCount()]);
  numbersTable(byId("mono-numbers"), ["Language", "Panel", "F1, one for all", "F1, one for each", "Difference"], () =>
    panels.flatMap((panel) => panel.items.map((one) => [one.language.name, named(panel.title), one.x.toFixed(1), one.y.toFixed(1), points(Math.round((one.y - one.x) * 1e4), true)])));
}
