// The data, as page/data.py packed it, and what all parts need: elements, numbers, the state.

const packed = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

const languages = packed.languages.map(([code, name, family, script, resource, train, bytes], index) =>
  ({ index, code, name, family, script, resource, train, wikipedia_bytes: bytes, key: `${name} ${code}`.toLowerCase() }));
const series = packed.series.map(([id, label, setting], index) => ({ id, label, setting, index }));
const variants = packed.variants.map(([id, label, setting, sparsity, percent, series, dense, seeds, pair]) =>
  ({ id, label, setting, sparsity: sparsity / 1e6, percent, series, dense, seeds, pair }));
const variantById = new Map(variants.map((one) => [one.id, one]));
const texts = new Map(packed.texts);
const verdicts = packed.verdicts;

// A column of which all values are the same is that value.
const at = (column, index) => (Array.isArray(column) ? column[index] : column);

function interval(columns, index) {
  const [mean, low, high, count, over] = columns.map((column) => at(column, index));
  return mean === null ? null : { mean, low, high, count, over };
}

function score(columns, index) {
  const verdict = at(columns[10], index);
  return {
    f1: interval(columns.slice(0, 5), index),
    change: interval(columns.slice(5, 10), index),
    verdict: verdict === null ? null : verdicts[verdict],
  };
}

// Scores are unpacked one by one when they are asked for; there may be tens of thousands.
const cellBlocks = new Map(packed.cells.map(([variant, text, places, ...columns]) =>
  [`${variant} ${text}`, { places: new Map(places.map((place, index) => [place, index])), columns }]));
const groupBlocks = new Map(packed.groups.map(([variant, text, by, names, members, ...columns]) =>
  [`${variant} ${text} ${by}`, { places: new Map(names.map((name, index) => [name, index])), members, columns }]));
const thresholdBlocks = new Map(packed.thresholds.map(([series, places, ...columns]) =>
  [series, { places: new Map(places.map((place, index) => [place, index])), columns }]));
const correlations = packed.correlations.map(([variant, against, rho, low, high, count, verdict]) =>
  ({ variant, against, rho, low, high, count, verdict: verdict === null ? null : verdicts[verdict] }));
const layers = new Map(packed.layers.map(([variant, ...columns]) => [variant, columns]));

function cellOf(variant, text, language) {
  const block = cellBlocks.get(`${variant} ${text}`);
  const index = block?.places.get(language.index);
  return index === undefined ? null : score(block.columns, index);
}

function groupOf(variant, text, by, name) {
  const block = groupBlocks.get(`${variant} ${text} ${by}`);
  const index = block?.places.get(name);
  return index === undefined ? null : { members: at(block.members, index), ...score(block.columns, index) };
}

function thresholdOf(number, language) {
  const block = thresholdBlocks.get(number);
  const index = block?.places.get(language.index);
  if (index === undefined) return null;
  const verdict = at(block.columns[1], index);
  return { sparsity: at(block.columns[0], index), verdict: verdict === null ? null : verdicts[verdict] };
}

function groupNames(by) {
  const names = new Set();
  for (const block of packed.groups) if (block[2] === by) block[3].forEach((name) => names.add(name));
  return [...names];
}

const variantsOf = (number) =>
  variants.filter((one) => one.series === number).sort((a, b) => a.sparsity - b.sparsity);

// Numbers, as page/text.py writes them. Scores are integers: millionths.
function points(value, signed = false) {
  if (value === null || value === undefined) return "–";
  const tenths = Math.floor((Math.abs(value) + 500) / 1000);
  const sign = !tenths ? "" : value < 0 ? "−" : signed ? "+" : "";
  return `${sign}${Math.floor(tenths / 10)}.${tenths % 10}`;
}
const between = (part, signed = false) =>
  !part || part.low === null || part.high === null ? "–" : `${points(part.low, signed)} to ${points(part.high, signed)}`;
function percent(sparsity) {
  const number = (100 * sparsity).toFixed(1).replace(/\.0$/, "");
  return `${number === "100" && sparsity < 1 ? ">99.9" : number}\u00a0%`;
}
const thousands = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
const counted = (number, one, more) => `${number} ${number === 1 ? one : more}`;
const over = (part) => {
  if (!part || part.low === null) return "no interval";
  return part.over === 1 ? "over sentences" : `over ${counted(part.count, "seed", "seeds")}`;
};

const signs = { lower: "▼", higher: "▲", "not distinguishable": "≈" };
const kindOf = (verdict) => ({ lower: "lower", higher: "higher", "not distinguishable": "same" })[verdict] ?? "none";
const wordsOf = (verdict) => verdict ?? "no interval";

// Elements. Text from the data only ever becomes text, never markup.
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}
const node = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const shape = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const named = (text) => node("bdi", {}, text);

const state = {
  variant: packed.first,
  text: texts.has("none") ? "none" : [...texts.keys()][0] ?? "none",
  by: "resource",
  panels: "series",
  series: new Set(packed.shown),
  order: "train",
  numbers: false,
  against: "train",
  filters: { resource: "", script: "", family: "", query: "" },
  sort: { key: "name", down: false },
  robustGroup: "all",
  robustText: null,
  pair: null,
};

const shownLanguages = () =>
  languages.filter((one) =>
    ["resource", "script", "family"].every((field) => !state.filters[field] || one[field] === state.filters[field]) &&
    one.key.includes(state.filters.query.trim().toLowerCase()));

const sentence = (words) => {
  const text = words.join(", ");
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
};
const shownCount = () => `${shownLanguages().length} of ${counted(languages.length, "language", "languages")}`;

const current = () => variantById.get(state.variant) ?? null;

function shownText(text = true) {
  const variant = current();
  const words = [variant ? variant.label : "no variant", texts.get(state.text) ?? "no text"].slice(0, text ? 2 : 1);
  if (text) words.push(shownCount());
  return sentence(words);
}
