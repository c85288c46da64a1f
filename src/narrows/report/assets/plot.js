// Plotly in the page's own fonts, colours and manners, for every page.

const LAYOUT_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';
const DASHES = { "-": "", "--": "6 3", ":": "2 3", "-.": "6 3 2 3" };
const PLOTLY_DASHES = { "-": "solid", "--": "dash", ":": "dot", "-.": "dashdot" };

function isDark() { return document.documentElement.dataset.theme === "dark"; }
function isNarrow() { return window.innerWidth < 700; }
function ink(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); }
function tone(pair) { return isDark() ? pair.dark : pair.light; }

function draw(id, traces, layout) {
  const grid = { gridcolor: ink("line"), zeroline: false, linecolor: ink("faint"), tickcolor: ink("faint"), automargin: true };
  const shown = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: LAYOUT_FONT, size: 12.5, color: ink("soft") },
    margin: { l: 56, r: 14, t: 14, b: 52 }, hovermode: "closest", showlegend: false, dragmode: isNarrow() ? false : "zoom",
    hoverlabel: { bgcolor: ink("card"), bordercolor: ink("line"), font: { family: LAYOUT_FONT, size: 12.5, color: ink("ink") }, align: "left" },
    ...layout, xaxis: { ...grid, ...layout.xaxis }, yaxis: { ...grid, ...layout.yaxis },
  };
  const settings = {
    responsive: true, displaylogo: false, displayModeBar: isNarrow() ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
    toImageButtonOptions: { format: "svg", filename: id },
  };
  return Plotly.react(id, traces, shown, settings);
}

// A logarithmic axis whose ticks are written by `text`, over the values shown.
function logAxis(values, text, title) {
  const positive = values.filter((value) => value > 0);
  const low = Math.log10(Math.min(...(positive.length ? positive : [1]))) - 0.12;
  const high = Math.log10(Math.max(...(positive.length ? positive : [10]))) + 0.12;
  const steps = high - low < (isNarrow() ? 1.5 : 2.6) ? [1, 2, 5] : [1];
  const ticks = [];
  for (let e = Math.floor(low); e <= high; e += 1) for (const m of steps) ticks.push(m * 10 ** e);
  return { type: "log", range: [low, high], tickvals: ticks, ticktext: ticks.map((tick) => text(Number(tick.toPrecision(3)))), title: { text: title } };
}

function extent(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low) * 0.08 || Math.abs(high) * 0.03 || 1;
  return [low - room, high + room];
}
