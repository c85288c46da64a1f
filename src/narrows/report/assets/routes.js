// Figure 5: the map of winners, recomputed from the candidates' terms, and what happens at one link.

const COLUMNS = 44;
const ROWS = 30;
const ANY = 100; // the sliders' last step: no bound

// Each slider: its text, where the plan has it, and position (0 to 100) ↔ value.
function makeSliders(plan) {
  const log = (low, high) => ({
    to: (position) => low * (high / low) ** (position / 100), from: (value) => 100 * Math.log(value / low) / Math.log(high / low),
  });
  const { link, cloud } = plan.places;
  const bounds = plan.bounds;
  const most = plan.share ? 0.1 : 0.1 * (Math.abs(plan.best_accuracy) || 1);
  const band = [Math.min(5e4, link.bandwidth_up_bits_per_s), Math.max(1e8, link.bandwidth_up_bits_per_s)];
  const trip = [Math.min(1e-3, link.round_trip_s || 1e-3), Math.max(0.5, link.round_trip_s)];
  const wait = log(1e-4, Math.max(10, cloud.queue_s));
  const late = log(1e-3, 100);
  return {
    bandwidth: { label: "Uplink bandwidth", start: link.bandwidth_up_bits_per_s, text: bandwidthText, ends: band, ...log(...band) },
    roundTrip: { label: "Round trip", start: link.round_trip_s, text: secondsText, ends: trip, ...log(...trip) },
    speed: { label: "Device speed", start: 1, text: (v) => `× ${digits(v)}`, ...log(0.05, 20) },
    queue: {
      label: "Queue in the cloud", start: cloud.queue_s, text: secondsText,
      to: (position) => (position <= 0 ? 0 : wait.to(position)), from: (value) => (value <= 1e-4 ? 0 : wait.from(value)),
    },
    drop: {
      label: "Largest drop", start: bounds.max_drop, text: (v) => (v === null ? "any" : dropText(v, plan.share)),
      to: (position) => (position >= ANY ? null : most * position / 100), from: (value) => (value === null ? ANY : 100 * value / most),
    },
    deadline: {
      label: "Deadline", start: bounds.max_latency_s, text: (v) => (v === null ? "none" : secondsText(v)),
      to: (position) => (position >= ANY ? null : late.to(position)), from: (value) => (value === null ? ANY : late.from(value)),
    },
  };
}

function showSliders(plan, setting, changed) {
  plan.sliders = makeSliders(plan);
  const parts = Object.entries(plan.sliders).map(([name, slider]) => {
    const output = element("output", { id: `value-${name}` }, slider.text(setting[name]));
    const input = element("input", { type: "range", min: "0", max: "100", step: "0.5", id: `slider-${name}` });
    input.value = String(slider.from(setting[name]));
    input.addEventListener("input", () => {
      setting[name] = slider.to(Number(input.value));
      output.textContent = slider.text(setting[name]);
      changed();
    });
    return element("div", { class: "slider" }, element("label", { for: input.id }, slider.label), output, input);
  });
  const goal = element("select", { id: "objective" });
  const names = { latency: "latency", bytes: "payload bytes", accuracy: DATA.metric_name, cost: "price", "device-macs": "device MACs" };
  if (plan.places.device.active_power_w !== null && plan.places.device.idle_power_w !== null) names.energy = "device energy";
  fillSelect(goal, Object.entries(names), setting.objective);
  goal.addEventListener("change", () => { setting.objective = goal.value; changed(); });
  const reset = element("button", { type: "button", class: "plain", id: "reset" }, "Back to the plan");
  reset.addEventListener("click", () => {
    Object.assign(setting, planSetting(plan));
    showSliders(plan, setting, changed);
    changed();
  });
  parts.push(element("div", { class: "controls" }, element("label", {}, "Best ", goal), reset));
  byId("sliders").replaceChildren(...parts);
}

function planSetting(plan) {
  const sliders = makeSliders(plan);
  return { ...Object.fromEntries(Object.entries(sliders).map(([name, slider]) => [name, slider.start])), objective: plan.objective };
}

// Places and bounds that a setting stands for, at the plan's link.
function placesOf(plan, setting) {
  const { device, link, cloud } = plan.places;
  const slowdown = setting.speed === 1 ? device.slowdown : device.slowdown / setting.speed;
  return { device: { ...device, slowdown }, link, cloud: { ...cloud, queue_s: setting.queue } };
}

function boundsOf(plan, setting) {
  return { ...plan.bounds, max_drop: setting.drop, max_latency_s: setting.deadline };
}

function gridOf([low, high], count) {
  return Array.from({ length: count }, (_, i) => low * (high / low) ** (i / (count - 1)));
}

function drawRoutes(plan, setting) {
  const [to, bounds] = [placesOf(plan, setting), boundsOf(plan, setting)];
  const bands = gridOf(plan.sliders.bandwidth.ends, COLUMNS);
  const trips = gridOf(plan.sliders.roundTrip.ends, ROWS);
  const cells = winnersMap(plan.rows, plan.places, to, bounds, setting.objective, bands, trips);
  const regions = new Map();
  cells.flat().forEach((cell) => {
    const label = cell ? cell.row.region : "nothing fits";
    const region = regions.get(label) || { label, count: 0, colour: cell ? regionColour(plan, cell.row) : ink("line") };
    region.count += 1;
    regions.set(label, region);
  });
  const ordered = [...regions.values()].sort((a, b) => b.count - a.count);
  ordered.forEach((region, index) => { region.index = index; });
  const scale = ordered.flatMap((region, i) => [[i / ordered.length, region.colour], [(i + 1) / ordered.length, region.colour]]);
  const share = (region) => 100 * region.count / (ROWS * COLUMNS);
  byId("routes-keys").replaceChildren(...ordered.map((region) => keyElement(
    `${region.label}  ${share(region) < 1 ? "< 1" : share(region).toFixed(0)} %`, swatch(region.colour, "box"))));
  drawMap(plan, setting, { cells, bands, trips, ordered, regions, scale });
  showWhatIf(plan, setting, linked(to, setting.bandwidth, setting.roundTrip), bounds);
}

function regionColour(plan, row) {
  return row.route === "split" ? depthColour(row.device_macs / (DATA.networks[row.network].total_macs || 1)) : familyColour(row.family);
}

function drawMap(plan, setting, map) {
  const hover = map.cells.map((line, r) => line.map((cell, c) => {
    const place = `${bandwidthText(map.bands[c])}, ${secondsText(map.trips[r])} round trip`;
    if (!cell) return `${place}<br>nothing fits`;
    return `${place}<br><b>${escapeText(cell.row.name)}</b><br>${secondsText(cell.cost.latency_s)} · ${bytesText(cell.row.payload_bytes)} · `
      + `drop ${dropText(cell.row.drop, plan.share)}`;
  }));
  const bandAxis = logAxis(map.bands, bandwidthText, "uplink bandwidth");
  const tripAxis = logAxis(map.trips, secondsText, "round trip");
  const half = (values) => Math.log10(values[1] / values[0]) / 2;
  const limits = (values) => [Math.log10(values[0]) - half(values), Math.log10(values[values.length - 1]) + half(values)];
  const cross = { type: "line", line: { color: ink("ink"), width: 1.2, dash: "dot" } };
  const [band, trip] = [setting.bandwidth, setting.roundTrip];
  return draw("routes-chart", [{
    type: "heatmap", x: map.bands, y: map.trips, z: map.cells.map((line) => line.map((cell) => map.regions.get(cell ? cell.row.region : "nothing fits").index)),
    zmin: -0.5, zmax: map.ordered.length - 0.5, colorscale: map.scale, showscale: false, text: hover, hoverinfo: "text",
  }, {
    type: "scatter", mode: "markers", x: [band], y: [trip], hoverinfo: "skip",
    marker: { symbol: "cross", size: 13, color: ink("ink"), line: { width: 1.5, color: ink("card") } },
  }], {
    dragmode: false, margin: { l: 56, r: 40, t: 14, b: 52 }, annotations: regionNames(map), xaxis: { ...bandAxis, range: limits(map.bands), showgrid: false }, yaxis: { ...tripAxis, range: limits(map.trips), showgrid: false },
    shapes: [{ ...cross, yref: "paper", x0: band, x1: band, y0: 0, y1: 1 }, { ...cross, xref: "paper", x0: 0, x1: 1, y0: trip, y1: trip }],
  });
}

// The short name of each large region, at its cell nearest the region's middle, where it has room.
function regionNames(map) {
  const letters = byId("routes-chart").clientWidth / COLUMNS / 8;
  const named = [];
  for (const region of map.ordered) {
    const own = [];
    map.cells.forEach((line, r) => line.forEach((cell, c) => { if ((cell ? cell.row.region : "nothing fits") === region.label) own.push([r, c]); }));
    const middle = [0, 1].map((axis) => own.reduce((sum, place) => sum + place[axis], 0) / own.length);
    const far = ([r, c]) => (r - middle[0]) ** 2 + (c - middle[1]) ** 2;
    const [row, column] = own.reduce((best, place) => (far(place) < far(best) ? place : best));
    const text = region.label.split(": ").pop().replace("split at ", "").replace(/ \(.*/, "");
    if (own.length < 0.03 * ROWS * COLUMNS || text.length > letters * own.filter(([r]) => r === row).length) continue;
    named.push({
      x: Math.log10(map.bands[column]), y: Math.log10(map.trips[row]), text: escapeText(text), showarrow: false,
      font: { size: 12, color: inkOn(region.colour) },
    });
  }
  return named;
}

function inkOn(colour) {
  if (!/^#[0-9a-f]{6}$/i.test(colour)) return ink("ink");
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.179 ? "#ffffff" : "#000000";
}

// The sentence and the bars at the sliders' link.
function showWhatIf(plan, setting, places, bounds) {
  const fitting = plan.rows.filter((row) => keepsFixed(row, bounds, places));
  const best = new Map();
  for (const row of fitting) {
    const found = choose([row], plan.places, places, bounds, setting.objective);
    if (!found) continue;
    const before = best.get(row.region);
    if (!before || beats(found, before)) best.set(row.region, found);
  }
  const ranked = [...best.values()].sort((a, b) => (beats(a, b) ? -1 : 1)).slice(0, 7);
  const where = `At ${bandwidthText(setting.bandwidth)} and ${secondsText(setting.roundTrip)} round trip`;
  const told = ranked.length
    ? [`${where}: `, element("b", {}, ranked[0].row.name), ` answers in ${secondsText(ranked[0].cost.latency_s)}, ${bytesText(ranked[0].row.payload_bytes)} sent, `
      + `drop ${dropText(ranked[0].row.drop, plan.share)}.`]
    : [`${where} nothing fits: allow a larger drop or a later deadline.`];
  byId("whatif").replaceChildren(...told);
  drawBars("ranking-chart", ranked.map((found, index) => ({
    name: found.row.name, cost: found.cost, strong: index === 0, note: bytesText(found.row.route === "local" ? 0 : found.row.payload_bytes),
    measured: Object.fromEntries(TERMS.map((term) => [term, found.row.measured[term] && found.cost[term] === found.row[term]])),
  })));
}
