// The table of languages: sorted by its headings, filtered with the figures.

const body = byId("table").tBodies[0];
const verdictOrder = { lower: 0, "not distinguishable": 1, higher: 2 };

function tableRow(language) {
  const variant = current();
  const found = variant && cellOf(variant.id, state.text, language);
  const dense = variant && cellOf(variant.dense, state.text, language);
  const below = variant && thresholdOf(variant.series, language);
  return { language, found, dense, below, keys: {
    name: language.key, script: language.script.toLowerCase(), family: language.family.toLowerCase(), train: language.train,
    dense: dense?.f1?.mean, f1: found?.f1?.mean, change: found?.change?.mean, low: found?.change?.low,
    verdict: verdictOrder[found?.verdict], below: below ? below.sparsity ?? Infinity : null,
  } };
}

// What is missing comes last in either direction; what is equal keeps the order of names.
function sorted(rows) {
  const { key, down } = state.sort;
  const known = (one) => one.keys[key] !== null && one.keys[key] !== undefined;
  return [...rows].sort((a, b) => {
    if (known(a) !== known(b)) return known(a) ? -1 : 1;
    const order = known(a) ? compare(a.keys[key], b.keys[key]) : 0;
    return (down ? -order : order) || compare(a.keys.name, b.keys.name);
  });
}

function forest(found, low, high) {
  const change = found?.change;
  if (!change) return null;
  const place = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
  const host = node("span", { class: `forest ${kindOf(found.verdict) === "none" ? "same" : kindOf(found.verdict)}`, "aria-hidden": "true" });
  host.style.setProperty("--zero", place(0));
  if (change.low !== null) {
    const line = node("i");
    line.style.left = place(change.low);
    line.style.width = `${(100 * (change.high - change.low)) / (high - low || 1)}%`;
    host.append(line);
  }
  const dot = node("b");
  dot.style.left = place(change.mean);
  host.append(dot);
  return host;
}

function belowText(below) {
  if (!below) return "–";
  if (below.sparsity === null) return "at none";
  return `${below.verdict === "not distinguishable" ? "≈ " : ""}${percent(below.sparsity / 1e6)}`;
}

function renderTable() {
  const rows = sorted(shownLanguages().map(tableRow));
  const values = rows.flatMap(({ found }) => (found?.change ? [found.change.mean, found.change.low ?? found.change.mean, found.change.high ?? found.change.mean] : []));
  const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
  body.replaceChildren(...rows.map(({ language, found, dense, below }) => {
    const kind = kindOf(found?.verdict);
    return node("tr", {},
      node("th", { scope: "row" }, named(language.name), " ", node("span", { class: "code" }, named(language.code))),
      node("td", {}, language.train === null ? "–" : thousands(language.train)),
      node("td", {}, points(dense?.f1?.mean)), node("td", {}, points(found?.f1?.mean)),
      node("td", {}, points(found?.change?.mean, true), forest(found, low, high)),
      node("td", {}, between(found?.change, true)),
      node("td", { class: `verdict ${kind}` }, found ? node("span", { "aria-hidden": "true" }, signs[found.verdict] ?? "–") : null, found ? ` ${wordsOf(found.verdict)}` : "no score"),
      node("td", {}, belowText(below)),
      node("td", {}, named(language.script)), node("td", {}, named(language.family)));
  }));
  for (const heading of byId("table").tHead.rows[0].cells) {
    if (heading.dataset.key === state.sort.key) heading.setAttribute("aria-sort", state.sort.down ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  }
  byId("table-shown").textContent = shownText();
  for (const line of byId("overview").tBodies[0].rows) line.classList.toggle("chosen", Number(line.dataset.variant) === state.variant);
}

for (const heading of byId("table").tHead.rows[0].cells) {
  const button = node("button", { type: "button" }, heading.textContent);
  button.addEventListener("click", () => {
    const { key, down } = state.sort;
    state.sort = { key: heading.dataset.key, down: key === heading.dataset.key && !down };
    renderTable();
  });
  heading.replaceChildren(button);
}
