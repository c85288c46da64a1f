// Figures 1 to 4. Each draws from DATA and the settings of its own controls.

function familyColour(key) { return tone(DATA.palette.families[key]); }

function depthColour(share) {
  const stops = tone(DATA.palette.depth);
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const index = Math.min(Math.floor(place), stops.length - 2);
  const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  const [low, high] = [channels(stops[index]), channels(stops[index + 1])];
  return `#${low.map((a, i) => Math.round(a + (high[i] - a) * (place - index)).toString(16).padStart(2, "0")).join("")}`;
}

function depthScale() {
  const stops = tone(DATA.palette.depth);
  return stops.map((colour, index) => [index / (stops.length - 1), colour]);
}

function colourBar(title) {
  const flat = { orientation: "h", y: 1.02, yanchor: "bottom", x: 0.5, len: 0.9, title: { text: title, side: "top" } };
  const upright = { title: { text: title, side: "right" }, len: 1 };
  return { thickness: 11, outlinewidth: 0, ...(isNarrow() ? flat : upright) };
}

const QUANTITIES = {
  bytes: { title: "bytes across the cut", log: true, text: bytesText, of: (network, i) => network.cuts.size_bytes[i] },
  macs: { title: "device MACs (millions)", text: (v) => `${digits(v)} MMACs`, of: (network, i) => network.cuts.head_macs[i] / 1e6 },
  accuracy: { title: null, text: (v) => (DATA.share ? `${v.toFixed(1)} %` : digits(v)), of: (network) => metricValue(network.accuracy) },
};

function metricValue(value) { return DATA.share ? 100 * value : value; }

function axisOf(quantity, values) {
  if (quantity.log) return logAxis(values, quantity.text, quantity.title);
  return { title: { text: quantity.title || DATA.metric }, range: extent(values) };
}

function drawCuts(state) {
  const [x, y, c] = state.cutsAxes.split(",").map((name) => QUANTITIES[name]);
  const colourOf = (value) => (c.log ? Math.log10(value) : value);
  const all = { x: [], y: [], c: [] };
  const traces = DATA.networks.map((network, index) => {
    const cuts = network.cuts.size_bytes.map((_, i) => i);
    const values = [x, y, c].map((quantity) => cuts.map((i) => quantity.of(network, i)));
    all.x.push(...values[0]); all.y.push(...values[1]); all.c.push(...values[2].map(colourOf));
    return {
      type: "scatter", mode: "markers", x: values[0], y: values[1], visible: !state.hiddenNetworks.has(index), hoverinfo: "text",
      hovertext: cuts.map((i) => cutHover(network, i)),
      marker: {
        symbol: networkSymbol(index), size: cuts.map((i) => (i ? 9 : 13)), coloraxis: "coloraxis",
        color: values[2].map(colourOf), line: { width: cuts.map((i) => (i ? 0.6 : 2)), color: cuts.map((i) => (i ? ink("card") : ink("ink"))) },
      },
    };
  });
  const bar = colourBar(c.title || DATA.metric);
  if (c.log) {
    const axis = logAxis(all.c.map((v) => 10 ** v), bytesText, "");
    Object.assign(bar, { tickvals: axis.tickvals.map(Math.log10), ticktext: axis.ticktext });
  }
  const [low, high] = [Math.min(...all.c), Math.max(...all.c)];
  return draw("cuts-chart", traces, {
    xaxis: axisOf(x, all.x), yaxis: axisOf(y, all.y), margin: { l: 56, r: 14, t: isNarrow() ? 76 : 14, b: 52 },
    coloraxis: { colorscale: depthScale(), cmin: c === QUANTITIES.macs ? 0 : low, cmax: high > low ? high : low + 1, colorbar: bar },
  });
}

function cutHover(network, i) {
  const { tensor, shape, size_bytes: size, head_macs: macs, head_macs_share: share, index } = network.cuts;
  const place = index[i] === 0 ? "the input" : `cut ${index[i]}`;
  return `<b>${escapeText(network.label)}</b>, ${place}<br>${escapeText(shorten(tensor[i], 60))} (${escapeText(shape[i])})<br>`
    + `${bytesText(size[i])} uncompressed · ${macsText(macs[i])} on the device (${percentText(share[i])})<br>`
    + `${escapeText(DATA.metric_name)} ${metricText(network.accuracy, DATA.share)}`;
}

function rowHover(row, network) {
  const accuracy = `${escapeText(DATA.metric_name)} ${metricText(row.accuracy, DATA.share)} (n = ${row.n}), drop ${dropText(row.drop, DATA.share)}`;
  const interval = `[${dropText(row.low, DATA.share)}, ${dropText(row.high, DATA.share)}]`;
  const agreement = row.agreement === null ? "" : `<br>agreement ${percentText(row.agreement)}`;
  return `<b>${escapeText(network.label)}</b>: ${escapeText(row.name)}<br>${bytesText(row.payload_bytes)} payload · `
    + `${macsText(row.device_macs)} on the device<br>${accuracy} ${interval}${agreement}`;
}

function drawRates(state) {
  const network = DATA.networks[state.ratesNetwork];
  const rows = PLANS[network.plan].rows;
  const chosen = PLANS[network.plan].chosen;
  const traces = [];
  const [sizes, levels] = [[], []];
  const tint = (macs) => depthColour(macs / (network.total_macs || 1));
  for (const curve of network.curves) {
    if (state.hiddenFamilies.has(curve.family)) continue;
    const points = curve.rows.map((i) => rows[i]);
    const family = DATA.palette.families[curve.family];
    const colour = curve.cut === null ? familyColour(curve.family) : tint(curve.device_macs);
    const level = points.map((row) => metricValue(network.exact - row.drop));
    sizes.push(...points.map((row) => row.payload_bytes)); levels.push(...level);
    traces.push({
      type: "scatter", mode: "lines+markers", x: points.map((row) => row.payload_bytes), y: level, hoverinfo: "text",
      hovertext: points.map((row) => rowHover(row, network)),
      line: { color: colour, width: curve.cut === null ? 2.2 : 1.4, dash: PLOTLY_DASHES[family.dash] },
      marker: { color: colour, symbol: points.map((row) => family.symbol + (row.whole ? "" : "-open")), size: curve.cut === null ? 8 : 6.5 },
    });
  }
  const best = chosen !== null && rows[chosen].network === state.ratesNetwork ? rows[chosen] : null;
  if (best && best.route !== "local" && !state.hiddenFamilies.has(best.family)) {
    traces.push({
      type: "scatter", mode: "markers", x: [best.payload_bytes], y: [metricValue(network.exact - best.drop)], hoverinfo: "text",
      hovertext: [`★ recommended<br>${rowHover(best, network)}`],
      marker: { symbol: "star", size: 18, color: ink("ink"), line: { width: 1.2, color: ink("card") } },
    });
  }
  const scale = {
    type: "scatter", mode: "markers", x: [null], y: [null], hoverinfo: "skip",
    marker: { color: [0], cmin: 0, cmax: network.total_macs / 1e6, colorscale: depthScale(), showscale: true, colorbar: colourBar("device MACs (millions)") },
  };
  const top = metricValue(network.exact);
  const floor = DATA.share ? Math.max(top - 20, Math.min(...levels, top) - 1) : Math.min(...levels, top);
  const range = DATA.share ? [floor, Math.min(100.5, Math.max(top, ...levels) + 1)] : extent([...levels, top]);
  return draw("rates-chart", [...traces, scale], {
    xaxis: logAxis(sizes.length ? sizes : [1, 1000], bytesText, "payload bytes (mean)"), yaxis: { title: { text: DATA.metric }, range },
    margin: { l: 56, r: 14, t: isNarrow() ? 76 : 14, b: 52 },
    shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: top, y1: top, line: { color: ink("faint"), width: 1, dash: "dot" } }],
    annotations: [{ xref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false, text: escapeText(network.original), font: { size: 11, color: ink("faint") } }],
  });
}

function drawDepth(state) {
  const network = DATA.networks[state.depthNetwork];
  const shares = network.cuts.head_macs_share.map((share) => 100 * share);
  const need = network.needs[state.depthDrop];
  const sizes = [...network.cuts.size_bytes];
  const traces = [{
    type: "scatter", mode: "lines+markers", x: shares, y: network.cuts.size_bytes, hoverinfo: "text",
    hovertext: shares.map((_, i) => cutHover(network, i)), line: { color: ink("faint"), width: 1.2, dash: "dot" }, marker: { size: 4, color: ink("faint") },
  }];
  for (const [key, points] of Object.entries(need.families)) {
    if (state.hiddenDepth.has(key)) continue;
    const family = DATA.palette.families[key];
    const colour = familyColour(key);
    sizes.push(...points.map((point) => point.size_bytes));
    traces.push({
      type: "scatter", mode: "lines+markers", x: points.map((p) => 100 * p.share), y: points.map((p) => p.size_bytes), hoverinfo: "text",
      hovertext: points.map((p) => `<b>cut ${p.cut}</b> ${escapeText(p.codec)}<br>${p.is_bound ? "at most " : ""}${bytesText(p.size_bytes)} at ${escapeText(need.label)}<br>`
        + `${percentText(p.share)} of the MACs on the device`),
      line: { color: colour, width: 2, dash: PLOTLY_DASHES[family.dash] },
      marker: { symbol: family.symbol, size: 9, color: points.map((p) => (p.is_bound ? ink("card") : colour)), line: { width: 1.8, color: colour } },
    });
  }
  const extra = {};
  if (need.picture && !state.hiddenDepth.has("picture")) {
    const { size_bytes: size, codec } = need.picture;
    sizes.push(size);
    const colour = familyColour(need.picture.family);
    extra.shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: size, y1: size, line: { color: colour, width: 1.8 } }];
    extra.annotations = [{
      xref: "paper", x: 1, y: Math.log10(size), xanchor: "right", yanchor: "bottom", showarrow: false, font: { size: 12, color: colour },
      text: escapeText(`best picture: ${codec}, ${bytesText(size)}`),
    }];
  }
  return draw("depth-chart", traces, {
    xaxis: { title: { text: "device MACs (% of the network)" }, range: [-3, 103] }, yaxis: logAxis(sizes, bytesText, "bytes"), ...extra,
  });
}

// Stacked bars of terms; `bars` hold {name, cost, measured, note, strong}.
function drawBars(id, bars) {
  const narrow = byId(id).clientWidth < 620;
  const places = bars.map((_, i) => i);
  const totals = bars.map((bar) => 1e3 * bar.cost.latency_s);
  const end = barEnd(totals);
  const pieces = bars.map((bar) => cutOff(bar.cost, end));
  const traces = TERMS.map((term) => {
    const colour = tone(DATA.palette.terms[term]);
    return {
      type: "bar", orientation: "h", y: places, x: pieces.map((piece) => piece[term]), width: narrow ? 0.42 : 0.7, hoverinfo: "text",
      hovertext: bars.map((bar) => `<b>${escapeText(bar.name)}</b><br>${term} (${DATA.palette.terms[term].place}): ${secondsText(bar.cost[term])}, `
        + `${bar.measured[term] ? "measured" : "predicted"}<br>in all ${secondsText(bar.cost.latency_s)}`),
      marker: {
        color: colour, line: { width: 0 },
        pattern: { shape: bars.map((bar) => (bar.measured[term] ? "" : "/")), bgcolor: colour, fgcolor: ink("card"), size: 7, solidity: 0.22 },
      },
    };
  });
  const annotations = bars.map((bar, i) => ({
    x: Math.min(totals[i], end), y: i, xanchor: "left", showarrow: false, font: { size: 11.5, color: ink("soft") },
    text: escapeText(`${totals[i] > end ? "… to " : ""}${secondsText(bar.cost.latency_s)}${bar.note ? ` · ${bar.note}` : ""}`),
  }));
  const names = bars.map((bar) => `${bar.strong ? "<b>★ " : ""}${escapeText(shorten(bar.name, narrow ? 46 : 54))}${bar.strong ? "</b>" : ""}`);
  if (narrow) {
    names.forEach((text, i) => annotations.push({
      x: 0, y: i - 0.42, xanchor: "left", yanchor: "middle", showarrow: false, text, font: { size: 11.5, color: ink("ink") },
    }));
  }
  const chart = byId(id);
  chart.style.height = `${Math.max(150, bars.length * (narrow ? 44 : 29) + 66)}px`;
  return draw(id, traces, {
    barmode: "stack", dragmode: false, annotations,
    xaxis: { title: { text: "milliseconds" }, range: [0, end * (narrow ? 2.1 : 1.4)], nticks: narrow ? 5 : 9, fixedrange: true },
    yaxis: {
      range: [bars.length - 0.45, narrow ? -0.85 : -0.55], tickvals: narrow ? [] : places, ticktext: narrow ? [] : names, showgrid: false, fixedrange: true,
      tickfont: { color: ink("ink"), size: 12 },
    },
    margin: { l: narrow ? 8 : 60, r: 8, t: 6, b: 46 },
  });
}

// The milliseconds of each term that lie before the end of the axis.
function cutOff(cost, end) {
  let before = 0;
  return Object.fromEntries(TERMS.map((term) => {
    const shown = Math.max(0, Math.min(1e3 * cost[term], end - before));
    before += 1e3 * cost[term];
    return [term, shown];
  }));
}

// Bars far longer than the rest run off the axis rather than squeeze them.
function barEnd(totals) {
  const ordered = [...totals].sort((a, b) => a - b);
  for (let i = ordered.length - 1; i > ordered.length / 2; i -= 1) if (ordered[i] > 2.5 * ordered[i - 1]) return 1.3 * ordered[i - 1];
  return ordered[ordered.length - 1] || 1;
}

function drawTerms(plan) {
  const bars = plan.bars.map((i) => {
    const row = plan.rows[i];
    const note = `${row.route === "local" ? "0 B" : bytesText(row.payload_bytes)} · drop ${dropText(row.drop, plan.share)}`;
    return { name: row.name, cost: moved(row, plan.places, plan.places), measured: row.measured, note, strong: i === plan.chosen };
  });
  return drawBars("terms-chart", bars);
}
