// What the drawn figures share: scales, axes, marks, legends, tables of their numbers.

const COLORS = 8;
const shapes = [
  (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`,
  (r) => `M${-r},${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (r) => `M0,${-1.25 * r}L${1.2 * r},${r}H${-1.2 * r}z`,
  (r) => `M0,${-1.35 * r}L${1.35 * r},0L0,${1.35 * r}L${-1.35 * r},0z`,
  (r) => `M0,${1.25 * r}L${1.2 * r},${-r}H${-1.2 * r}z`,
];

const scale = (from, to, start, end) => (value) => start + ((value - from) / (to - from || 1)) * (end - start);

// Round numbers between two ends, about as many as asked for.
function ticks(from, to, count) {
  const rough = (to - from) / Math.max(1, count);
  if (!(rough > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let number = Math.ceil(from / step - 1e-9); number * step <= to + 1e-9 * step; number++) found.push(number * step);
  return found;
}
const tickText = (value) => String(+value.toFixed(6)).replace("-", "−");

function range(values, room = 0.05) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  if (!known.length) return [0, 1];
  const low = Math.min(...known);
  const high = Math.max(...known);
  const more = (high - low || 0.02 * Math.abs(high) || 1) * room;
  return [low - more, high + more];
}

const mark = (number, x, y, size = 4, open = false) =>
  shape("path", { class: `mark${open ? " open" : ""}`, d: shapes[number % shapes.length](size), transform: `translate(${x.toFixed(1)},${y.toFixed(1)})` });

// Distinct for 40 lines: the color repeats after 8, the form of the mark after 5.
const sample = (number, line = true) =>
  shape("svg", { width: line ? 26 : 14, height: 14, class: `color-${number % COLORS}`, "aria-hidden": "true" },
    line ? shape("path", { class: "line", d: "M1,7H25" }) : null, mark(number, line ? 13 : 7, 7));

function legend(host, names, line = true) {
  host.replaceChildren(...names.map((name, number) => node("span", {}, sample(number, line), named(name))));
}

// A table that is only made when it is opened.
function numbersTable(details, headings, rows) {
  details.querySelector("table")?.remove();
  const make = () => {
    if (!details.open || details.querySelector("table")) return;
    details.append(node("table", {},
      node("thead", {}, node("tr", {}, headings.map((heading) => node("th", { scope: "col" }, heading)))),
      node("tbody", {}, rows().map(([first, ...others]) =>
        node("tr", {}, node("th", { scope: "row" }, named(first)), others.map((value) => node("td", {}, value)))))));
  };
  details.ontoggle = make;
  make();
}

const widthOf = (host) => Math.max(200, Math.floor(host.clientWidth || 320));

function yAxis(values, y, left, right) {
  return values.map((value) => [
    shape("path", { class: "grid", d: `M${left},${y(value).toFixed(1)}H${right}` }),
    shape("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, tickText(value)),
  ]);
}
