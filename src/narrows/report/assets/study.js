// Wiring of a study's page: controls, keys, and what is drawn when something changes.

const first = (values) => (values.length ? values[0] : null);
const STATE = {
  bars: { quantity: "time", runtime: first(DATA.compiled), threads: DATA.threads[0] },
  ratios: { threads: DATA.threads[0], hidden: new Set() },
  operators: { operatorsRuntime: first([...new Set(DATA.operators.map((one) => one.runtime))]), network: "all" },
  accuracy: { threads: DATA.threads[0], hidden: new Set() },
  sorting: { key: null, sign: 1 },
};

function showFacts() {
  const facts = DATA.facts.map(([name, value]) => element("li", {}, `${name} `, element("b", {}, value)));
  const warn = [[DATA.failed_cells, "failed"], [DATA.missing, "not measured yet"]].filter(([count]) => count);
  facts.unshift(...warn.map(([count, what]) => element("li", { class: "demo" }, `${count} ${count === 1 ? "cell" : "cells"} ${what}`)));
  byId("facts").replaceChildren(...facts);
  byId("sentence").textContent = DATA.answer[0];
  byId("found").replaceChildren(...DATA.answer.slice(1).map((line) => element("li", {}, line)));
  byId("failures").hidden = DATA.failed.length === 0;
  byId("failed").replaceChildren(...DATA.failed.map((line) => element("li", {}, line)));
  for (const note of document.querySelectorAll(".scope")) note.textContent = `Counted on: ${DATA.scope}.`;
  byId("footer").textContent = `Measured on: ${DATA.scope}`;
}

function mark(runtime) { return RUNTIMES[runtime].symbol; }

function showKeys() {
  const shown = AMOUNTS[STATE.bars.quantity].share ? DATA.variants.map((variant) => variant.key) : CHANGED;
  const keys = shown.map((key) => keyElement(key, swatch(variantColour(key), "box")));
  if (!AMOUNTS[STATE.bars.quantity].share) keys.unshift(keyElement("original = 100 %", swatch(variantColour("original"), "box")));
  byId("bars-keys").replaceChildren(...keys);
  byId("ratios-keys").replaceChildren(...CHANGED.flatMap((variant) => DATA.compiled.map((runtime) => toggleKey(
    `${variant}, ${RUNTIMES[runtime].label}`, swatch(variantColour(variant), mark(runtime)), STATE.ratios.hidden, `${variant} ${runtime}`, () => drawRatios(STATE.ratios)))));
  byId("operators-keys").replaceChildren(...DATA.types.map((type) => keyElement(type.key, swatch(tone(type), "box"))));
  byId("accuracy-keys").replaceChildren(
    ...DATA.variants.map(({ key }) => toggleKey(key, swatch(variantColour(key), "box"), STATE.accuracy.hidden, key, () => drawAccuracy(STATE.accuracy))),
    ...DATA.compiled.map((runtime) => keyElement(RUNTIMES[runtime].label, swatch(ink("soft"), mark(runtime)))));
}

function toggleKey(label, shown, hidden, key, redraw) {
  return keyElement(label, shown, !hidden.has(key), (on) => { if (on) hidden.delete(key); else hidden.add(key); redraw(); });
}

function choose(id, options, state, key, redraw) {
  fillSelect(byId(id), options, state[key]);
  byId(id).closest("label").hidden = options.length < 2;
  byId(id).addEventListener("change", () => {
    state[key] = typeof state[key] === "number" ? Number(byId(id).value) : byId(id).value;
    showKeys();
    redraw(state);
  });
}

function redrawTable() { drawTable(STATE.sorting, redrawTable); }

function drawAll() {
  showKeys();
  drawBars(STATE.bars); drawRatios(STATE.ratios); drawOperators(STATE.operators); drawAccuracy(STATE.accuracy);
  redrawTable();
}

function start() {
  startTheme(drawAll);
  showFacts();
  showClaims();
  const threads = DATA.threads.map((count) => [count, String(count)]);
  const named = (keys) => keys.map((key) => [key, RUNTIMES[key].label]);
  const has = (key) => key === "energy" || DATA.rows.some((row) => { const value = AMOUNTS[key].of(row); return value !== null && value !== undefined; });
  choose("bars-quantity", Object.keys(AMOUNTS).filter(has).map((key) => [key, AMOUNTS[key].label]), STATE.bars, "quantity", drawBars);
  choose("bars-runtime", named(DATA.compiled), STATE.bars, "runtime", drawBars);
  choose("bars-threads", threads, STATE.bars, "threads", drawBars);
  choose("ratios-threads", threads, STATE.ratios, "threads", drawRatios);
  choose("operators-runtime", named([...new Set(DATA.operators.map((one) => one.runtime))]), STATE.operators, "operatorsRuntime", drawOperators);
  choose("operators-network", [["all", "all"], ...[...new Set(DATA.operators.map((one) => one.network))].map((name) => [name, name])], STATE.operators, "network", drawOperators);
  choose("accuracy-threads", threads, STATE.accuracy, "threads", drawAccuracy);
  byId("operators").hidden = DATA.operators.length === 0;
  byId("table-filter").addEventListener("input", redrawTable);
  byId("table-save").addEventListener("click", () => saveTable(STATE.sorting));
  drawAll();
  onWidthChange(drawAll);
  document.documentElement.dataset.ready = "true";
}

start();
