// The change to dense: a table of languages by sparsities that is coloured, and moved in by arrow keys.

// Where the colours change, in points; even steps would hide everything below 10 points.
const EDGES = [0.5, 1, 2, 5, 10, 20, 40];
const stepOf = (change) => EDGES.filter((edge) => Math.abs(change) / 1e4 >= edge).length;

const orders = {
  train: ["fine-tuning size", (one) => one.train ?? Infinity, (one) => one.resource],
  family: ["family", (one) => one.family, (one) => one.family],
  script: ["script", (one) => one.script, (one) => one.script],
  loss: ["change", null, null],
  name: ["name", (one) => one.key, null],
};

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function heatRows(columns) {
  const [, key, group] = orders[state.order];
  const loss = (one) => {
    const found = columns.map(({ variant }) => cellOf(variant.id, state.text, one)?.change?.mean).filter((value) => value !== undefined);
    return found.length ? Math.min(...found) : Infinity;
  };
  // Groups stay together where their names do not go by the sizes that the runs had.
  const names = state.order === "train" ? groupNames("resource") : [];
  const place = (one) => names.indexOf(one.resource);
  const keys = new Map(shownLanguages().map((one) => [one, key ? key(one) : loss(one)]));
  const sorted = [...keys.keys()].sort((a, b) => compare(place(a), place(b)) || compare(keys.get(a), keys.get(b)) || compare(a.key, b.key));
  return { sorted, group };
}

function heatCell(found, first, label) {
  if (!found?.change) {
    return node("td", { class: `gap${first}`, tabindex: -1 }, node("span", { class: "words" }, found ? "no dense score" : "no score"));
  }
  const { change, verdict } = found;
  const tag = { "not distinguishable": " same-mark" }[verdict] ?? (verdict === null ? " unsure-mark" : "");
  const side = change.mean < 0 ? "down" : "up";
  return node("td", { class: `${side} step-${stepOf(change.mean)}${tag}${first}`, tabindex: -1 },
    node("span", { class: "value" }, points(change.mean, true)), node("span", { class: "words" }, `, ${wordsOf(verdict)}`));
}

function renderHeat() {
  const host = byId("heat");
  const chosen = chosenSeries().map((one) => ({ ...one, list: variantsOf(one.id).filter((variant) => variant.dense !== null) }))
    .filter((one) => one.list.length);
  const columns = chosen.flatMap((one) => one.list.map((variant, number) => ({ variant, first: number ? "" : " apart" })));
  const { sorted, group } = heatRows(columns);
  byId("heat-shown").textContent = sentence([texts.get(state.text) ?? "no text", shownCount()]);
  if (!columns.length || !sorted.length) {
    host.replaceChildren(node("p", { class: "empty" }, columns.length ? "No language is left by the filters." : "No series with a dense run to compare with is chosen."));
    byId("heat-key").replaceChildren();
    return;
  }
  const details = new Map();
  const used = new Set();
  const line = (title, find, context) => node("tr", {}, node("th", { scope: "row" }, title), columns.map(({ variant, first }) => {
    const { found, dense } = find(variant);
    const cell = heatCell(found, first);
    if (found?.change) used.add(`${found.change.mean < 0 ? "down" : "up"} ${stepOf(found.change.mean)}`);
    details.set(cell, { context, variant, found, dense });
    return cell;
  }));
  const all = groupNames("all")[0];
  const body = [line("all languages", (variant) => ({
    found: groupOf(variant.id, state.text, "all", all), dense: groupOf(variant.dense, state.text, "all", all),
  }), "all languages (mean)")];
  let before = null;
  for (const one of sorted) {
    if (group && group(one) !== before) {
      before = group(one);
      body.push(node("tr", { class: "rows" }, node("th", { colspan: columns.length + 1, scope: "rowgroup" }, named(before), state.order === "train" ? " sentences" : "")));
    }
    body.push(line(named(one.name), (variant) => ({
      found: cellOf(variant.id, state.text, one), dense: cellOf(variant.dense, state.text, one),
    }), `${one.name} (${one.code})`));
  }
  const table = node("table", { class: `heat${state.numbers ? " with-numbers" : ""}`, role: "grid", "aria-label": "Change of F1 to dense, in points" },
    node("colgroup", {}, node("col", { class: "names" }), columns.map(() => node("col"))),
    node("thead", {},
      node("tr", {}, node("td", {}), chosen.map((one) => node("th", { class: "over apart", colspan: one.list.length, scope: "colgroup" }, named(one.label)))),
      node("tr", {}, node("th", { scope: "col" }, node("span", { class: "hidden" }, "Language")), columns.map(({ variant, first }) =>
        node("th", { scope: "col", class: first.trim() || null }, variant.percent.replace("\u00a0%", ""))))),
    node("tbody", {}, body));
  table.style.setProperty("--columns", columns.length);
  host.replaceChildren(table);
  moveInHeat(table, details);
  heatKey(used);
}

function moveInHeat(table, details) {
  const lines = [...table.tBodies[0].rows].map((line) => [...line.cells].filter((cell) => details.has(cell))).filter((line) => line.length);
  let here = lines[0][0];
  here.tabIndex = 0;
  const content = (cell) => {
    const { context, variant, found, dense } = details.get(cell);
    return [node("strong", {}, named(context)), node("span", { class: "more" }, named(variant.label)),
      found?.f1 ? scoreRows(found, dense) : node("div", {}, "no score")];
  };
  const go = (cell) => {
    here.tabIndex = -1;
    here = cell;
    here.tabIndex = 0;
    here.focus();
  };
  table.addEventListener("pointermove", (event) => {
    const cell = event.target.closest("td");
    if (details.has(cell)) showTip(content(cell), event.clientX, event.clientY);
    else hideTip();
  });
  table.addEventListener("pointerleave", hideTip);
  table.addEventListener("pointerdown", (event) => {
    const cell = event.target.closest("td");
    if (details.has(cell)) showTip(content(cell), event.clientX, event.clientY);
  });
  table.addEventListener("focusin", (event) => {
    const cell = event.target.closest("td");
    if (details.has(cell) && cell.matches(":focus-visible")) showTipBeside(content(cell), cell);
  });
  table.addEventListener("focusout", hideTip);
  table.addEventListener("keydown", (event) => {
    const y = lines.findIndex((line) => line.includes(here));
    const x = lines[y].indexOf(here);
    const last = lines[y].length - 1;
    const to = {
      ArrowRight: [y, Math.min(x + 1, last)], ArrowLeft: [y, Math.max(x - 1, 0)],
      ArrowDown: [Math.min(y + 1, lines.length - 1), x], ArrowUp: [Math.max(y - 1, 0), x],
      Home: event.ctrlKey ? [0, 0] : [y, 0], End: event.ctrlKey ? [lines.length - 1, last] : [y, last],
      PageDown: [Math.min(y + 10, lines.length - 1), x], PageUp: [Math.max(y - 10, 0), x],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    go(lines[to[0]][to[1]]);
  });
}

function heatKey(used) {
  const steps = (side) => [...used].filter((one) => one.startsWith(side)).map((one) => Number(one.split(" ")[1]));
  const most = (side) => Math.max(0, ...steps(side));
  const piece = (side, step, words) => node("span", {}, node("i", { class: `${side} step-${step}` }), words);
  const edge = (step) => (step === EDGES.length ? `${EDGES[step - 1]}+` : `${EDGES[step - 1]}–${EDGES[step]}`);
  const scaleParts = [];
  for (let step = most("down"); step > 0; step--) scaleParts.push(piece("down", step, `−${edge(step)}`));
  scaleParts.push(piece("up", 0, `±${EDGES[0]}`));
  for (let step = 1; step <= most("up"); step++) scaleParts.push(piece("up", step, `+${edge(step)}`));
  byId("heat-key").replaceChildren(
    node("span", { class: "scale" }, scaleParts),
    node("span", {}, node("i", { class: "up step-0 same-mark" }), "not distinguishable from dense"),
    node("span", {}, node("i", { class: "up step-0 unsure-mark" }), "no interval"),
    node("span", {}, node("i", { class: "gap" }), "no score"));
}

function renderLayers() {
  const host = byId("layers");
  const found = layers.get(state.variant);
  byId("layers-shown").textContent = shownText(false);
  if (!found) {
    host.replaceChildren(node("p", { class: "empty" }, "No sparsity by matrix is known of this variant."));
    return;
  }
  const [numbers, names, sparsities] = found;
  const inLayers = [...new Set(names.filter((_, index) => numbers[index] !== null))];
  const rows = [...new Set(numbers.filter((number) => number !== null))].sort((a, b) => a - b);
  const values = names.map((_, index) => at(sparsities, index) / 1e6);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const cell = (index) => {
    if (index < 0) return node("td", { class: "gap" }, "–");
    const step = high - low < 0.005 ? 3 : Math.round((7 * (values[index] - low)) / (high - low));
    return node("td", { class: `step-${step}` }, (100 * values[index]).toFixed(1));
  };
  const find = (number, name) => names.findIndex((one, index) => one === name && numbers[index] === number);
  const others = names.flatMap((name, index) => (numbers[index] === null ? [[name, index]] : []));
  host.replaceChildren(
    rows.length ? node("table", { class: "heat layers" },
      node("thead", {}, node("tr", {}, node("th", { scope: "col" }, "Layer"), inLayers.map((name) => node("th", { scope: "col" }, name.replace("/", "/\u200b").replaceAll("_", " "))))),
      node("tbody", {}, rows.map((number) => node("tr", {}, node("th", { scope: "row" }, String(number)), inLayers.map((name) => cell(find(number, name))))))) : null,
    others.length ? node("table", { class: "heat layers" }, node("tbody", {}, others.map(([name, index]) =>
      node("tr", {}, node("th", { scope: "row" }, name), cell(index))))) : "");
}
