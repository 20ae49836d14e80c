// Everything is drawn again when something changes: it takes a few hundredths of a second.

function renderFiltered() {
  byId("count").textContent = shownCount();
  hideTip();
  renderHeat();
  renderSize();
  renderRobustEach();
  renderMono();
  renderTable();
}

function render() {
  renderCurves();
  renderRobust();
  renderLayers();
  renderFiltered();
}

document.documentElement.classList.add("with-script");
setUpControls();
render();

let width = document.body.clientWidth;
new ResizeObserver(() => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  requestAnimationFrame(render);
}).observe(document.body);

// On paper nothing stays folded but the numbers, which the tables have, and long lists of runs.
const folded = () => [...document.querySelectorAll("details.on-paper, .notes details")];
let wereOpen = [];
window.addEventListener("beforeprint", () => {
  wereOpen = folded().map((one) => one.open);
  for (const one of folded()) one.open = true;
});
window.addEventListener("afterprint", () => folded().forEach((one, index) => { one.open = wereOpen[index]; }));
