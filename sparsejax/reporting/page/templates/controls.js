// What can be chosen. Nothing of it is remembered.

function choices(select, options, value) {
  select.replaceChildren(...options.map(([key, words]) => node("option", { value: key, selected: key === value }, words)));
}

function radios(host, title, name, options, value, onChange) {
  host.replaceChildren(node("fieldset", {}, node("legend", {}, title), options.map(([key, words]) => {
    const input = node("input", { type: "radio", name, value: key, checked: key === value });
    input.addEventListener("change", () => onChange(key));
    return node("label", {}, input, words);
  })));
}

// The same series are in the curves, the heat map and the changed text, so the boxes go together.
function seriesBoxes(host, name) {
  if (series.length < 2) return;
  host.replaceChildren(node("fieldset", {}, node("legend", {}, "Series"), series.map((one) => {
    const input = node("input", { type: "checkbox", name, value: one.id, checked: state.series.has(one.id) });
    input.addEventListener("change", () => {
      if (input.checked) state.series.add(one.id);
      else state.series.delete(one.id);
      for (const other of document.querySelectorAll(".options input[type=checkbox][value]")) {
        if (other.value === String(one.id)) other.checked = input.checked;
      }
      render();
    });
    return node("label", {}, input, named(one.label));
  })));
}

function variantOptions(select) {
  const option = (one) => node("option", { value: one.id, selected: one.id === state.variant }, one.label);
  const lists = series.map((one) => [one.label, variantsOf(one.id)]);
  lists.push(["dense", variants.filter((one) => one.series === null)]);
  select.replaceChildren(...lists.filter(([, list]) => list.length).map(([label, list]) => node("optgroup", { label }, list.map(option))));
}

function choose(variant) {
  state.variant = variant;
  byId("variant").value = String(variant);
  const pair = pairs.findIndex((one) => one.mono.id === variant || one.multi.id === variant);
  if (pair >= 0) byId("mono-pair").value = String((state.pair = pair));
  render();
}

function setUpControls() {
  for (const by of ["resource", "script", "family", "all"]) if (groupNames(state.by).length === 0) state.by = by;
  state.robustText = [...texts.keys()].find((kind) => kind === "script") ?? [...texts.keys()].find((kind) => kind !== "none") ?? null;
  state.pair = pairs.length ? Math.max(0, pairs.findIndex((one) => one.multi.id === state.variant)) : null;

  const groupings = [["resource", "training data"], ["script", "script"], ["family", "family"], ["all", "all languages"]].filter(([by]) => groupNames(by).length);
  radios(byId("curves-by"), "Groups", "by", groupings, state.by, (by) => { state.by = by; renderCurves(); });
  radios(byId("curves-panels"), "A panel for each", "panels", [["series", "series"], ["groups", "group"]], state.panels, (kind) => { state.panels = kind; renderCurves(); });
  seriesBoxes(byId("curves-series"), "curves-series");
  seriesBoxes(byId("heat-series"), "heat-series");
  variantOptions(byId("variant"));
  byId("variant").addEventListener("change", (event) => choose(Number(event.target.value)));
  for (const id of ["text", "curves-text"]) {
    choices(byId(id), [...texts], state.text);
    byId(id).addEventListener("change", (event) => {
      state.text = byId("text").value = byId("curves-text").value = event.target.value;
      render();
    });
  }

  for (const field of ["resource", "script", "family"]) {
    const values = [...new Set(languages.map((one) => one[field]))].sort(compare);
    choices(byId(`filter-${field}`), [["", "all"], ...values.map((value) => [value, value])], "");
    byId(`filter-${field}`).addEventListener("change", (event) => { state.filters[field] = event.target.value; renderFiltered(); });
  }
  byId("query").addEventListener("input", (event) => { state.filters.query = event.target.value; renderFiltered(); });
  const form = document.querySelector("form.bar");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.querySelector("button").addEventListener("click", (event) => {
    event.preventDefault();
    state.filters = { resource: "", script: "", family: "", query: "" };
    for (const id of ["filter-resource", "filter-script", "filter-family", "query"]) byId(id).value = "";
    renderFiltered();
  });

  choices(byId("order"), Object.entries(orders).map(([key, [words]]) => [key, words]), state.order);
  byId("order").addEventListener("change", (event) => { state.order = event.target.value; renderHeat(); });
  byId("heat-show").checked = state.numbers;
  byId("heat-show").addEventListener("change", (event) => { state.numbers = event.target.checked; renderHeat(); });
  radios(byId("size-against"), "Against", "against", Object.entries(againsts).map(([key, [words]]) => [key, words]), state.against, (key) => { state.against = key; renderSize(); });
  choices(byId("robust-group"), [["all", "all"], ...groupNames("resource").map((name) => [name, `${name} sentences`])], "all");
  byId("robust-group").addEventListener("change", (event) => { state.robustGroup = event.target.value; renderRobust(); });
  choices(byId("robust-text"), [...texts].filter(([kind]) => kind !== "none"), state.robustText);
  byId("robust-text").addEventListener("change", (event) => { state.robustText = event.target.value; renderRobustEach(); });
  choices(byId("mono-pair"), pairs.map((pair, index) => [index, pair.label]), state.pair);
  byId("mono-pair").addEventListener("change", (event) => { state.pair = Number(event.target.value); renderMono(); });

  for (const line of byId("overview").tBodies[0].rows) {
    const heading = line.cells[0];
    const button = node("button", { type: "button" }, ...heading.childNodes);
    button.addEventListener("click", () => choose(Number(line.dataset.variant)));
    heading.replaceChildren(button);
  }
  const theme = byId("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const showTheme = () => {
    theme.setAttribute("aria-pressed", String(isDark()));
  };
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  dark.addEventListener("change", showTheme);
  showTheme();
}
