// Numbers and text for people, as narrows.units writes them; small makers of page elements.

function digits(value) { return String(Number(value.toPrecision(3))); }

function bytesText(size) {
  for (const [factor, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) if (size >= factor) return `${digits(size / factor)} ${unit}`;
  return `${size.toFixed(0)} B`;
}

function scaledText(value, unit) {
  if (value === 0) return `0 ${unit}`;
  for (const [factor, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"]]) {
    if (Math.abs(value) >= factor) return `${digits(value / factor)} ${prefix}${unit}`;
  }
  return `${digits(value * 1e9)} n${unit}`;
}

function secondsText(value) { return scaledText(value, "s"); }
function joulesText(value) { return scaledText(value, "J"); }
function bandwidthText(value) { return scaledText(value, "bit/s"); }
function macsText(value) { return scaledText(value, "MACs"); }
function percentText(share) { return `${(share * 100).toFixed(1)} %`; }
function metricText(value, share) { return share ? percentText(value) : digits(value); }
function dropText(value, share) {
  if (!share) return digits(value);
  const text = (100 * value).toFixed(1);
  return `${text === "-0.0" ? "0.0" : text} points`;
}

// Plotly reads a little HTML in its labels; a name must not be read so.
function escapeText(text) { return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); }

function shorten(text, most) {
  if (text.length <= most) return text;
  const end = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - end)}…${text.slice(text.length - end)}`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function byId(id) { return document.getElementById(id); }

// A key of a legend: a swatch, a name, and for toggles whether it is on.
function keyElement(label, swatch, pressed, toggled) {
  const key = element(toggled ? "button" : "span", { class: "key", title: label }, swatch, element("span", {}, label));
  if (toggled) {
    key.type = "button";
    key.setAttribute("aria-pressed", String(pressed));
    key.addEventListener("click", () => {
      const now = key.getAttribute("aria-pressed") !== "true";
      key.setAttribute("aria-pressed", String(now));
      toggled(now);
    });
  }
  return key;
}

const MARKS = {
  circle: "M8 4a4 4 0 1 0 .01 0", square: "M4.5 4.5h7v7h-7z", diamond: "M8 3l5 5-5 5-5-5z", "triangle-up": "M8 3.5l5 9H3z",
  "triangle-down": "M8 12.5l5-9H3z", cross: "M6.5 3h3v3.5h3.5v3H9.5v3.5h-3V9.5H3v-3h3.5z",
  x: "M4 5.5L5.5 4 8 6.5 10.5 4 12 5.5 9.5 8l2.5 2.5L10.5 12 8 9.5 5.5 12 4 10.5 6.5 8z",
  star: "M8 2.5l1.7 3.6 3.9.5-2.9 2.7.8 3.9L8 11.3l-3.5 1.9.8-3.9L2.400 6.6l3.9-.5z",
  pentagon: "M8 3l5 3.7-1.9 5.800H4.9L3 6.7z", hexagon: "M5.5 3.5h5L13 8l-2.5 4.5h-5L3 8z",
  "triangle-left": "M3.5 8l9-5v10z", "triangle-right": "M12.5 8l-9-5v10z", box: "M2 3h12v10H2z",
};

function swatch(colour, symbol = "circle", { line = false, dash = "", hatch = "" } = {}) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const parts = [["path", { d: MARKS[symbol] || MARKS.circle, fill: colour }]];
  if (line) parts.unshift(["path", { d: "M0 8H24", stroke: colour, "stroke-width": 1.6, "stroke-dasharray": dash, fill: "none" }]);
  if (hatch) parts.push(["path", { d: "M2 9l6-6M4 13L14 3M9 13l5-5", stroke: hatch, "stroke-width": 1.4, fill: "none" }]);
  const shown = { width: line ? 24 : 16, height: 16, viewBox: line ? "-4 0 24 16" : "0 0 16 16", "aria-hidden": "true" };
  for (const [key, value] of Object.entries(shown)) svg.setAttribute(key, value);
  for (const [name, attributes] of parts) {
    const part = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
    svg.append(part);
  }
  return svg;
}

function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(([value, label]) => element("option", { value }, label)));
  select.value = String(chosen);
}
