// The frontier of one plan: variants by their marks, cuts by the work they leave the device, codecs by the rim.

const FRONTIER_AXES = {
  latency: { title: "time to answer", of: (row) => row.latency_s, text: secondsText },
  bytes: { title: "payload bytes (mean; all on the device sends none)", of: (row) => row.payload_bytes, text: bytesText },
  macs: { title: "device MACs (nothing before a picture or raw input is sent)", of: (row) => row.device_macs, text: macsText },
  flash: { title: "file on the device", of: (row) => row.device_flash_bytes, text: bytesText },
  memory: { title: "memory on the device", of: (row) => row.device_memory_bytes, text: bytesText },
};

function frontierRows(plan) { return plan.rows.filter((row) => row.on_frontier || row.index === plan.chosen); }

function drawFrontier(state) {
  const plan = PLANS[state.plan];
  const axis = FRONTIER_AXES[state.frontierAxis];
  const most = Math.max(...plan.rows.map((row) => row.device_macs), 1);
  const rows = frontierRows(plan).filter((row) => !state.hiddenFrontier.has(row.network));
  const amounts = rows.map(axis.of).filter((amount) => amount > 0);
  // What is zero has no logarithm: it stands by itself, left of all the others.
  const zero = Math.min(...(amounts.length ? amounts : [3])) / 3;
  const place = (row) => axis.of(row) || zero;
  const paint = (row) => (row.cut === null ? familyColour(row.family) : depthColour(row.device_macs / most));
  const traces = [...new Set(rows.map((row) => row.network))].map((index) => {
    const own = rows.filter((row) => row.network === index);
    return {
      type: "scatter", mode: "markers", x: own.map(place), y: own.map((row) => metricValue(row.accuracy)), hoverinfo: "text",
      hovertext: own.map((row) => `${row.index === plan.chosen ? "★ recommended<br>" : ""}${rowHover(row, DATA.networks[index])}<br>${secondsText(row.latency_s)} to answer`),
      marker: {
        symbol: networkSymbol(index), size: own.map((row) => (row.index === plan.chosen ? 17 : 10)), color: own.map(paint), opacity: 1,
        line: { width: own.map((row) => (row.index === plan.chosen ? 2.8 : 1.6)), color: own.map((row) => (row.index === plan.chosen ? ink("ink") : familyColour(row.family))) },
      },
    };
  });
  const scale = {
    type: "scatter", mode: "markers", x: [null], y: [null], hoverinfo: "skip",
    marker: { color: [0], cmin: 0, cmax: most / 1e6, colorscale: depthScale(), showscale: true, colorbar: colourBar("device MACs before a cut (millions)") },
  };
  const best = metricValue(plan.best_accuracy);
  const useful = (row) => !DATA.share || row.index === plan.chosen || metricValue(row.accuracy) >= best - 20;
  const seen = rows.filter(useful).map((row) => metricValue(row.accuracy));
  const x = logAxis(rows.map(place), axis.text, axis.title);
  if (rows.some((row) => axis.of(row) === 0)) {
    const kept = x.tickvals.map((tick, i) => [tick, x.ticktext[i]]).filter(([tick]) => tick > 1.5 * zero);
    Object.assign(x, { tickvals: [zero, ...kept.map(([tick]) => tick)], ticktext: ["none", ...kept.map(([, text]) => text)] });
  }
  return draw("frontier-chart", [...traces, scale], {
    xaxis: x, yaxis: { title: { text: DATA.metric }, range: extent([...seen, best]) },
    margin: { l: 56, r: 14, t: isNarrow() ? 76 : 14, b: 52 },
  });
}

function showFrontierKeys(state) {
  const plan = PLANS[state.plan];
  const rows = frontierRows(plan);
  const variants = [...new Set(plan.rows.map((row) => row.network))].map((index) => {
    const count = rows.filter((row) => row.network === index).length;
    return keyElement(`${DATA.networks[index].label} (${count})`, swatch(ink("soft"), networkSymbol(index)), !state.hiddenFrontier.has(index),
      (on) => { toggle(state.hiddenFrontier, index, on); drawFrontier(state); });
  });
  const codecs = Object.keys(DATA.palette.families).filter((key) => rows.some((row) => row.family === key));
  variants.push(...codecs.map((key) => keyElement(DATA.palette.families[key].label, swatch(familyColour(key), "box"))));
  byId("frontier-keys").replaceChildren(...variants);
}

function networkSymbol(index) { return DATA.palette.symbols[index % DATA.palette.symbols.length]; }
