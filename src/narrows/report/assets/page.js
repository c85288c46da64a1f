// Wiring: data in, controls, themes, and what is drawn when something changes.

const DATA = JSON.parse(byId("data").textContent);
const PLANS = DATA.plans.map(readPlan);
const STATE = {
  plan: 0, cutsAxes: "bytes,accuracy,macs", ratesNetwork: 0, depthNetwork: 0, depthDrop: 0,
  frontierAxis: "latency", hiddenFrontier: new Set(), hiddenNetworks: new Set(), hiddenFamilies: new Set(), hiddenDepth: new Set(), sorting: { key: "latency", sign: 1, all: false },
};

// Columns → rows; each row carries its terms at the plan's places.
function readPlan(plan) {
  const { columns } = plan;
  const names = Object.keys(columns);
  const rows = columns.id.map((_, index) => {
    const row = Object.fromEntries(names.map((name) => [name, columns[name][index]]));
    row.index = index;
    row.measured = Object.fromEntries(TERMS.map((term, bit) => [term, Boolean(row.measured_bits >> bit & 1)]));
    const cost = moved(row, plan.places, plan.places);
    Object.assign(row, { latency_s: cost.latency_s, energy_j: cost.energy_j, price: cost.price });
    row.search = [row.id, row.name, row.tensor || "", row.codec || "", row.route].join(" ").toLowerCase();
    return row;
  });
  return { ...plan, rows };
}

function showFacts(plan) {
  const fact = ([name, value]) => element("li", {}, `${name} `, element("b", {}, value));
  const facts = plan.facts.map(fact);
  if (plan.demonstration) facts.unshift(element("li", { class: "demo" }, `demonstration, n = ${plan.n}`));
  byId("facts").replaceChildren(...facts);
}

function showAnswer(plan) {
  byId("sentence").textContent = plan.explanation;
  byId("table-sentence").textContent = `${plan.chosen === null ? "" : "★ "}${plan.explanation}`;
  byId("answer").querySelector("h2").textContent = plan.chosen === null ? "Nothing fits" : "Recommended";
  byId("tiles").replaceChildren(...plan.tiles.map(([name, value, note]) => element("div", { class: "tile" },
    element("dt", {}, name), element("dd", {}, value, element("small", {}, note)))));
}

function showProfiles(plan) {
  byId("profile-list").replaceChildren(...plan.profiles.map(([title, entries]) => {
    const list = element("dl");
    for (const [name, value, source] of entries) {
      const held = element("dd", source ? { title: source } : {}, value);
      list.append(element("dt", {}, name), held);
    }
    return element("div", {}, element("h3", {}, title), list);
  }));
  byId("footer").textContent = plan.footer;
}

function showKeys() {
  byId("cuts-keys").replaceChildren(...DATA.networks.map((network, index) => keyElement(
    `${network.label} (${network.input_shape})`, swatch(ink("soft"), networkSymbol(index)), !STATE.hiddenNetworks.has(index),
    (on) => { toggle(STATE.hiddenNetworks, index, on); drawCuts(STATE); })));
  const present = (network) => Object.keys(DATA.palette.families).filter((key) => network.curves.some((curve) => curve.family === key));
  const familyKeys = (keys, hidden, redraw) => keys.map((key) => {
    const family = DATA.palette.families[key];
    return keyElement(family.label, swatch(familyColour(key), family.symbol, { line: true, dash: DASHES[family.dash] }), !hidden.has(key),
      (on) => { toggle(hidden, key, on); redraw(); });
  });
  byId("rates-keys").replaceChildren(...familyKeys(present(DATA.networks[STATE.ratesNetwork]), STATE.hiddenFamilies, () => drawRates(STATE)));
  const need = DATA.networks[STATE.depthNetwork].needs[STATE.depthDrop];
  const depthKeys = familyKeys(Object.keys(need.families), STATE.hiddenDepth, () => drawDepth(STATE));
  depthKeys.unshift(keyElement("uncompressed", swatch(ink("faint"), "circle", { line: true, dash: "2 3" })));
  if (need.picture) {
    depthKeys.push(keyElement("best picture codec", swatch(familyColour(need.picture.family), "box"), !STATE.hiddenDepth.has("picture"),
      (on) => { toggle(STATE.hiddenDepth, "picture", on); drawDepth(STATE); }));
  }
  byId("depth-keys").replaceChildren(...depthKeys);
  const terms = TERMS.map((term) => keyElement(`${term} (${DATA.palette.terms[term].place})`, swatch(tone(DATA.palette.terms[term]), "box")));
  terms.push(keyElement("measured", swatch(ink("soft"), "box")), keyElement("predicted", swatch(ink("soft"), "box", { hatch: ink("card") })));
  byId("terms-keys").replaceChildren(...terms);
}

function toggle(set, key, on) { if (on) set.delete(key); else set.add(key); }

function onSelect(id, options, key, redraw) {
  fillSelect(byId(id), options, STATE[key]);
  byId(id).addEventListener("change", () => {
    STATE[key] = typeof STATE[key] === "number" ? Number(byId(id).value) : byId(id).value;
    showKeys();
    redraw();
  });
}

let waiting = false;
function routesChanged() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawRoutes(PLANS[STATE.plan], STATE.setting); });
}

function redrawTable() { drawTable(PLANS[STATE.plan], STATE.sorting, redrawTable); }

function drawAll() {
  showKeys();
  drawCuts(STATE); drawRates(STATE); drawDepth(STATE);
  drawPlan();
}

function drawPlan() {
  const plan = PLANS[STATE.plan];
  showFrontierKeys(STATE);
  drawFrontier(STATE);
  drawTerms(plan);
  drawRoutes(plan, STATE.setting);
  redrawTable();
}

function showPlan(index) {
  STATE.plan = index;
  const plan = PLANS[index];
  STATE.setting = planSetting(plan);
  STATE.sorting.all = false;
  showFacts(plan); showAnswer(plan); showProfiles(plan);
  const routes = [...new Set(plan.rows.map((row) => row.route))];
  fillSelect(byId("table-route"), [["all", "all"], ...routes.map((route) => [route, route])], "all");
  showSliders(plan, STATE.setting, routesChanged);
  byId("terms-note").textContent = plan.bars_note;
}

function start() {
  startTheme(drawAll);
  for (const note of document.querySelectorAll(".scope")) note.textContent = `Counted on: ${DATA.scope}.`;
  const networks = DATA.networks.map((network, index) => [index, network.label]);
  const chosen = PLANS[0].chosen === null ? 0 : PLANS[0].rows[PLANS[0].chosen].network;
  STATE.ratesNetwork = chosen; STATE.depthNetwork = chosen;
  onSelect("rates-model", networks, "ratesNetwork", () => drawRates(STATE));
  onSelect("depth-model", networks, "depthNetwork", () => drawDepth(STATE));
  onSelect("depth-drop", DATA.networks[0].needs.map((need, index) => [index, need.label]), "depthDrop", () => drawDepth(STATE));
  byId("frontier-axis").addEventListener("change", () => { STATE.frontierAxis = byId("frontier-axis").value; drawFrontier(STATE); });
  byId("cuts-axes").addEventListener("change", () => { STATE.cutsAxes = byId("cuts-axes").value; drawCuts(STATE); });
  for (const id of ["table-filter", "table-route", "table-frontier"]) byId(id).addEventListener("input", redrawTable);
  byId("table-save").addEventListener("click", () => saveTable(PLANS[STATE.plan], STATE.sorting));
  const plans = byId("plan");
  fillSelect(plans, PLANS.map((plan, index) => [index, plan.title]), 0);
  byId("plan-field").hidden = PLANS.length === 1;
  plans.addEventListener("change", () => { showPlan(Number(plans.value)); drawPlan(); });
  showPlan(0);
  drawAll();
  onWidthChange(drawAll);
  document.documentElement.dataset.ready = "true";
}

start();
