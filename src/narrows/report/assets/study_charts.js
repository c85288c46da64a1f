// The four figures of a study. Each draws from DATA and the settings of its own controls.

const DATA = JSON.parse(byId("data").textContent);
const VARIANTS = Object.fromEntries(DATA.variants.map((variant) => [variant.key, variant]));
const RUNTIMES = Object.fromEntries(DATA.runtimes.map((runtime) => [runtime.key, runtime]));
const CHANGED = DATA.variants.map((variant) => variant.key).filter((key) => key !== "original");

// Name → how it is read off a row and written; `share`: shown as it is, not over the original.
const AMOUNTS = {
  size: { label: "size of the file", of: (row) => row.size, text: bytesText },
  time: { label: "time of one inference", of: (row) => row.time.value, text: secondsText },
  energy: { label: "energy of one inference", of: (row) => row.energy && row.energy.value, text: joulesText },
  estimated: { label: "estimated energy (no measurement)", of: (row) => row.estimated, text: joulesText },
  peak: { label: "peak memory", of: (row) => row.peak, text: bytesText },
  cold: { label: "cold start", of: (row) => row.load + row.first, text: secondsText },
  accuracy: { label: "accuracy", share: true, of: (row) => row.accuracy && 100 * row.accuracy.value, text: (v) => `${v.toFixed(1)} %` },
};

function rowOf(network, variant, runtime, threads) {
  return DATA.rows.find((row) => row.network === network && row.variant === variant && row.runtime === runtime && row.threads === threads);
}

function variantColour(key) { return tone(VARIANTS[key]); }

// A chart of rows: names beside them, or above them where the page is narrow.
function drawRows(id, names, traces, { step, axis, barmode = "overlay", annotations = [], shapes = [], strong = () => false }) {
  const chart = byId(id);
  const narrow = chart.clientWidth < 620;
  const label = (name, index) => (strong(index) ? `<b>${escapeText(shorten(name, 40))}</b>` : escapeText(shorten(name, 40)));
  const above = narrow ? names.map((name, i) => ({
    xref: "paper", x: 0, y: i - 0.5, xanchor: "left", yanchor: "middle", showarrow: false, text: label(name, i), font: { size: 11.5, color: ink("ink") },
  })) : [];
  chart.style.height = `${Math.max(140, names.length * (step + (narrow ? 16 : 0)) + 74)}px`;
  return draw(id, traces, {
    dragmode: false, barmode, annotations: [...annotations, ...above], shapes, xaxis: { fixedrange: true, ...axis },
    yaxis: {
      range: [names.length - 0.45, narrow ? -0.8 : -0.55], tickvals: narrow ? [] : names.map((_, i) => i), ticktext: narrow ? [] : names.map(label),
      showgrid: false, fixedrange: true, tickfont: { color: ink("ink"), size: 12 },
    },
    margin: { l: narrow ? 10 : 60, r: 12, t: 8, b: 50 },
  });
}

function drawBars(state) {
  const amount = AMOUNTS[state.quantity];
  const shown = amount.share ? DATA.variants.map((variant) => variant.key) : CHANGED;
  const rows = (network) => shown.map((variant) => rowOf(network, variant, state.runtime, state.threads));
  const networks = DATA.networks.filter((network) => rows(network).some((row) => row && amount.of(row) !== null && amount.of(row) !== undefined));
  const narrow = byId("bars-chart").clientWidth < 620;
  const width = (narrow ? 0.62 : 0.8) / shown.length;
  const annotations = [];
  let most = amount.share ? 100 : 115;
  const traces = shown.map((variant, place) => {
    const [x, y, text] = [[], [], []];
    const errors = { array: [], arrayminus: [] };
    networks.forEach((network, index) => {
      const row = rowOf(network, variant, state.runtime, state.threads);
      const base = rowOf(network, "original", state.runtime, state.threads);
      const value = row && amount.of(row);
      const before = base && amount.of(base);
      if (value === null || value === undefined || (!amount.share && !before)) return;
      const at = index + (place - (shown.length - 1) / 2) * width + (narrow ? 0.06 : 0);
      const length = amount.share ? value : 100 * value / before;
      most = Math.max(most, length);
      x.push(length); y.push(at);
      if (amount.share) { errors.array.push(100 * (row.accuracy.high - row.accuracy.value)); errors.arrayminus.push(100 * (row.accuracy.value - row.accuracy.low)); }
      const change = amount.share ? "" : `${amount.text(before)} → ${amount.text(value)}`;
      text.push(`<b>${escapeText(network)}</b>, ${escapeText(variant)}<br>${amount.share ? amount.text(value) + ` (n = ${row.n})` : `${change}: ${length.toFixed(1)} %`}`);
      annotations.push({
        x: amount.share ? length + (errors.array.at(-1) || 0) : length, y: at, xanchor: "left", showarrow: false, font: { size: 10.5, color: ink("soft") },
        text: amount.share ? amount.text(value) : change,
      });
    });
    return {
      type: "bar", orientation: "h", x, y, width: width * 0.86, hoverinfo: "text", hovertext: text, marker: { color: variantColour(variant) },
      ...(amount.share ? { error_x: { type: "data", symmetric: false, ...errors, color: ink("soft"), thickness: 1, width: 2 } } : {}),
    };
  });
  const line = { type: "line", yref: "paper", y0: 0, y1: 1, x0: 100, x1: 100, line: { color: variantColour("original"), width: 1.6 } };
  byId("bars-note").textContent = barsNote(amount, networks);
  return drawRows("bars-chart", networks, traces, {
    step: 9 + 14 * shown.length, annotations, shapes: amount.share ? [] : [line],
    axis: { title: { text: amount.share ? `${amount.label} (%)` : `${amount.label}, % of the original` }, range: [0, most * (narrow ? 1.65 : 1.22)], nticks: narrow ? 5 : 9 },
  });
}

function barsNote(amount, networks) {
  if (networks.length) return `${networks.length} of ${DATA.networks.length} networks. Counted on: ${DATA.scope}.`;
  const reasons = [...new Set(DATA.rows.map((row) => (amount === AMOUNTS.energy ? row.no_energy : row.no_score)).filter(Boolean))];
  return `Nothing to show: ${reasons.slice(0, 2).join("; ") || "no cell has it"}.`;
}

function drawRatios(state) {
  const series = CHANGED.flatMap((variant) => DATA.compiled.map((runtime) => ({ variant, runtime })));
  const names = [...DATA.networks, "geometric mean"];
  const room = 0.72 / Math.max(1, series.length);
  const all = [];
  const traces = series.map(({ variant, runtime }, place) => {
    const points = [];
    DATA.networks.forEach((network, index) => {
      const row = rowOf(network, variant, runtime, state.threads);
      if (row && row.ratio) points.push({ index, ...row.ratio, text: `<b>${escapeText(network)}</b>, ${escapeText(variant)}, ${escapeText(RUNTIMES[runtime].label)}<br>`
        + `× ${row.ratio.value.toFixed(3)} [${row.ratio.low.toFixed(3)}, ${row.ratio.high.toFixed(3)}]: ${row.verdict}` });
    });
    const claim = DATA.claims.find((one) => one.variant === variant && one.runtime === runtime && one.threads === state.threads);
    if (claim) points.push({ index: names.length - 1, value: claim.time.value, low: null, high: null, text: escapeText(claim.sentence) });
    all.push(...points.filter((point) => point.low !== null).flatMap((point) => [point.low, point.high]));
    return {
      type: "scatter", mode: "markers", hoverinfo: "text", x: points.map((p) => p.value), y: points.map((p) => p.index + (place - (series.length - 1) / 2) * room),
      hovertext: points.map((p) => p.text), visible: state.hidden.has(`${variant} ${runtime}`) ? false : true,
      error_x: { type: "data", symmetric: false, array: points.map((p) => p.high && p.high - p.value), arrayminus: points.map((p) => p.low && p.value - p.low), color: variantColour(variant), thickness: 1.5, width: 3 },
      marker: { color: variantColour(variant), symbol: points.map((p) => RUNTIMES[runtime].symbol + (runtime === DATA.compiled[0] ? "" : "-open")),
        size: points.map((p) => (p.index === names.length - 1 ? 11 : 7.5)), line: { width: 1.6, color: variantColour(variant) } },
    };
  });
  const axis = logAxis([...all, 0.9, 1.1], (v) => `${v}`, "time ÷ time of the original");
  const line = { type: "line", yref: "paper", y0: 0, y1: 1, x0: 1, x1: 1, line: { color: ink("ink"), width: 1.2 } };
  const bands = names.map((_, i) => i).filter((i) => i % 2).map((i) => (
    { type: "rect", xref: "paper", x0: 0, x1: 1, y0: i - 0.5, y1: i + 0.5, fillcolor: ink("line"), opacity: 0.35, line: { width: 0 }, layer: "below" }));
  return drawRows("ratios-chart", names, traces, { step: 12 + 9 * series.length, axis, shapes: [...bands, line], strong: (i) => i === names.length - 1 });
}

function drawOperators(state) {
  const found = DATA.operators.filter((one) => one.runtime === state.operatorsRuntime && (state.network === "all" || one.network === state.network));
  const names = found.map((one, i) => (i && found[i - 1].network === one.network ? one.variant : `${one.network} · ${one.variant}`));
  const narrow = byId("operators-chart").clientWidth < 620;
  const traces = DATA.types.map((type, place) => ({
    type: "bar", orientation: "h", y: found.map((_, i) => i + (narrow ? 0.08 : 0)), x: found.map((one) => 100 * one.shares[place]), width: narrow ? 0.5 : 0.78, hoverinfo: "text",
    hovertext: found.map((one) => `<b>${escapeText(one.network)}</b>, ${escapeText(one.variant)}<br>${escapeText(type.key)}: ${percentText(one.shares[place])}`),
    marker: { color: tone(type), line: { width: 0 } },
  }));
  return drawRows("operators-chart", names, traces, { step: 19, barmode: "stack", axis: { title: { text: "% of the time" }, range: [0, 100.5] } });
}

function drawAccuracy(state) {
  const judged = DATA.rows.filter((row) => row.accuracy && row.threads === state.threads && DATA.compiled.includes(row.runtime));
  const traces = [];
  const annotations = [];
  const groups = [...new Set(judged.map((row) => row.network))];
  for (const network of groups) {
    for (const runtime of DATA.compiled) {
      const rows = judged.filter((row) => row.network === network && row.runtime === runtime && !state.hidden.has(row.variant));
      if (!rows.length) continue;
      traces.push({
        type: "scatter", mode: "lines+markers", x: rows.map((row) => row.time.value), y: rows.map((row) => 100 * row.accuracy.value), hoverinfo: "text",
        hovertext: rows.map((row) => `<b>${escapeText(row.network)}</b>, ${escapeText(row.variant)}, ${escapeText(RUNTIMES[runtime].label)}<br>`
          + `${secondsText(row.time.value)} · ${percentText(row.accuracy.value)} [${percentText(row.accuracy.low)}, ${percentText(row.accuracy.high)}], n = ${row.n}`),
        line: { color: ink("line"), width: 1.4 },
        marker: { color: rows.map((row) => variantColour(row.variant)), symbol: RUNTIMES[runtime].symbol + (runtime === DATA.compiled[0] ? "" : "-open"), size: 9.5, line: { width: 1.6, color: rows.map((row) => variantColour(row.variant)) } },
      });
    }
  }
  const y = judged.map((row) => 100 * row.accuracy.value);
  const times = judged.map((row) => row.time.value);
  const axis = logAxis(times.length ? times : [1e-3, 1e-2], secondsText, "time of one inference");
  axis.range = [axis.range[0], axis.range[1] + (axis.range[1] - axis.range[0]) * (isNarrow() ? 0 : 0.18)];
  const range = y.length ? extent(y) : [0, 100];
  annotations.push(...networkNames(groups, judged, axis.range, range));
  const silent = DATA.networks.length - groups.length;
  byId("accuracy-note").textContent = `${silent ? `${silent} networks have no accuracy: ${[...new Set(DATA.rows.map((row) => row.no_score).filter(Boolean))].slice(0, 2).join("; ")}. ` : ""}Time on: ${DATA.scope}.`;
  return draw("accuracy-chart", traces, { xaxis: axis, yaxis: { title: { text: "accuracy (%)" }, range }, annotations });
}

// Names right of each network's slowest mark, moved apart where they would meet; a narrow page has no room for them.
function networkNames(networks, rows, xRange, yRange) {
  if (isNarrow()) return [];
  const chart = byId("accuracy-chart");
  const [width, height] = [chart.clientWidth - 70, chart.clientHeight - 66];
  const placed = [];
  return networks.map((network) => {
    const own = rows.filter((row) => row.network === network);
    const slowest = own.reduce((a, b) => (a.time.value > b.time.value ? a : b));
    const [x, y] = [Math.log10(slowest.time.value), 100 * slowest.accuracy.value];
    const text = shorten(network, 30);
    const left = (x - xRange[0]) / (xRange[1] - xRange[0]) * width;
    const level = (y - yRange[0]) / (yRange[1] - yRange[0]) * height;
    let shift = 0;
    const meets = (one) => Math.abs(one.level - level - shift) < 14 && left < one.right && one.left < left + 6.2 * text.length;
    while (placed.some(meets)) shift -= 4;
    placed.push({ left, right: left + 6.2 * text.length, level: level + shift });
    return { x, y, xanchor: "left", xshift: 8, yshift: shift, showarrow: false, text: escapeText(text), font: { size: 11, color: ink("soft") } };
  });
}
