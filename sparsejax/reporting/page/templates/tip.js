// One tooltip for all figures. It follows the pointer or stands beside what has the focus.

const tip = byId("tip");
let beside = null; // where it is to be, for what has the focus; null: it follows the pointer

function showTip(content, x, y) {
  beside = null;
  tip.replaceChildren(...content);
  tip.hidden = false;
  place(x, y);
}

function place(x, y) {
  const { width, height } = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const left = x + 14 + width > room ? x - 14 - width : x + 14;
  const top = y + 14 + height > window.innerHeight ? y - 14 - height : y + 14;
  tip.style.left = `${Math.max(4, Math.min(left, room - width - 4))}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

const corner = ({ right, bottom }) => [right - 10, bottom - 10];

function showTipBeside(content, element, where = corner) {
  const spot = () => where(element.getBoundingClientRect());
  showTip(content, ...spot());
  beside = spot;
}

function hideTip() {
  tip.hidden = true;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});
// What gets the focus may have to be scrolled to, and its tooltip comes along.
document.addEventListener("scroll", () => {
  if (beside && !tip.hidden) place(...beside());
  else hideTip();
}, { passive: true, capture: true });

const row = (heading, ...values) =>
  node("tr", {}, node("td", {}, heading), ...values.map((value) => node("td", {}, value)));

// What is known of one score.
function scoreRows(score, dense = null) {
  const rows = [row("F1", `${points(score.f1.mean)} (${between(score.f1)})`)];
  if (dense) rows.push(row("F1 dense", `${points(dense.f1.mean)} (${between(dense.f1)})`));
  if (score.change) {
    rows.push(row("Change", `${points(score.change.mean, true)} (${between(score.change, true)})`));
    rows.push(row("Verdict", `${signs[score.verdict] ?? ""} ${wordsOf(score.verdict)}`.trim()));
  }
  rows.push(row("Interval", over(score.change ?? score.f1)));
  return node("table", {}, node("tbody", {}, rows));
}

// The same in one line, for who listens.
function scoreWords(score) {
  if (!score) return "no score";
  const words = [`F1 ${points(score.f1.mean)}`];
  if (score.change) {
    words.push(`change ${points(score.change.mean, true)}`, `interval ${between(score.change, true)}`, wordsOf(score.verdict));
  }
  return words.join(", ");
}
