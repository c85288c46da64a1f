// The tables: claims, failures, and every cell, sorted by any column and filtered by text.

function intervalText(interval, text) { return `${text(interval.value)} [${text(interval.low)}, ${text(interval.high)}]`; }
function dash(value, text) { return value === null || value === undefined ? "–" : text(value); }
const plainPoints = (share) => (100 * share).toFixed(1);

const COLUMNS = [
  { key: "network", label: "network", text: true, value: (row) => row.network },
  { key: "variant", label: "variant", text: true, value: (row) => row.variant },
  { key: "runtime", label: "runtime", text: true, value: (row) => RUNTIMES[row.runtime].label },
  { key: "threads", label: "threads", value: (row) => row.threads },
  { key: "time", label: "time [95 %]", value: (row) => row.time.value, show: (row) => intervalText(row.time, secondsText) },
  { key: "ratio", label: "÷ original [95 %]", value: (row) => (row.ratio ? row.ratio.value : 0), show: (row) => dash(row.ratio, (r) => intervalText(r, (v) => v.toFixed(2))) },
  { key: "p90", label: "90th percentile", value: (row) => row.p90, show: (row) => secondsText(row.p90) },
  { key: "p99", label: "99th", value: (row) => row.p99 ?? 0, show: (row) => dash(row.p99, secondsText) },
  { key: "cpu", label: "CPU time", value: (row) => row.cpu, show: (row) => secondsText(row.cpu) },
  { key: "size", label: "size", value: (row) => row.size, show: (row) => bytesText(row.size) },
  { key: "macs", label: "MACs", value: (row) => row.macs, show: (row) => macsText(row.macs) },
  { key: "peak", label: "peak memory", value: (row) => row.peak ?? 0, show: (row) => dash(row.peak, bytesText) },
  { key: "cold", label: "cold start", value: (row) => row.load + row.first, show: (row) => secondsText(row.load + row.first) },
  { key: "energy", label: "energy [95 %]", value: (row) => (row.energy ? row.energy.value : 0), show: (row) => dash(row.energy, (e) => intervalText(e, joulesText)), title: (row) => row.no_energy },
  { key: "estimated", label: "energy, estimated", value: (row) => row.estimated ?? 0, show: (row) => dash(row.estimated, joulesText), estimate: true },
  { key: "accuracy", label: "accuracy [95 %]", value: (row) => (row.accuracy ? row.accuracy.value : 0), show: (row) => dash(row.accuracy, (a) => intervalText(a, percentText)), title: (row) => row.no_score },
  { key: "drop", label: "drop, points [95 %]", value: (row) => (row.drop ? row.drop.value : 0), show: (row) => dash(row.drop, (d) => intervalText(d, plainPoints)) },
  { key: "precision_macro", label: "precision", value: (row) => row.precision_macro ?? 0, show: (row) => dash(row.precision_macro, percentText) },
  { key: "recall", label: "recall", value: (row) => row.recall ?? 0, show: (row) => dash(row.recall, percentText) },
  { key: "f1", label: "F1", value: (row) => row.f1 ?? 0, show: (row) => dash(row.f1, percentText) },
  { key: "ece", label: "calibration error", value: (row) => row.ece ?? 0, show: (row) => dash(row.ece, percentText) },
  { key: "agreement", label: "agreement", value: (row) => row.agreement ?? 0, show: (row) => dash(row.agreement, percentText) },
  { key: "precision", label: "computed in", text: true, value: (row) => row.precision },
  { key: "flags", label: "mind", text: true, flags: true, value: (row) => row.flags.join("; ") },
];

function shownRows(sorting) {
  const words = byId("table-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = (row) => [row.network, row.variant, RUNTIMES[row.runtime].label, row.runtime, row.flags.join(" ")].join(" ").toLowerCase();
  const rows = DATA.rows.filter((row) => words.every((word) => found(row).includes(word)));
  const column = COLUMNS.find((one) => one.key === sorting.key);
  if (!column) return rows;
  const order = (a, b) => (column.text ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  return [...rows].sort((a, b) => sorting.sign * order(column.value(a), column.value(b)));
}

function drawTable(sorting, redraw) {
  byId("table-head").replaceChildren(...COLUMNS.map((column) => {
    const button = element("button", { type: "button", "data-column": column.key }, column.label);
    button.addEventListener("click", () => {
      sorting.sign = sorting.key === column.key ? -sorting.sign : 1;
      sorting.key = column.key;
      redraw();
    });
    const head = element("th", { scope: "col", class: column.text ? "text" : "" }, button);
    if (column.key === sorting.key) head.setAttribute("aria-sort", sorting.sign > 0 ? "ascending" : "descending");
    return head;
  }));
  const rows = shownRows(sorting);
  byId("table-body").replaceChildren(...rows.map((row) => element("tr", {}, ...COLUMNS.map((column) => tableCell(column, row)))));
  byId("table-count").textContent = `${rows.length} of ${DATA.rows.length} cells`;
}

function tableCell(column, row) {
  const kind = [column.text ? "text" : "", column.flags ? "flags" : "", column.estimate && row.estimated !== null ? "predicted" : ""].filter(Boolean).join(" ");
  const cell = element("td", { class: kind }, column.show ? column.show(row) : String(column.value(row)));
  const told = column.title && column.title(row);
  if (told) cell.title = told;
  if (column.key === "ratio" && row.verdict === "slower") cell.classList.add("slower");
  return cell;
}

function showClaims() {
  const times = (interval) => `× ${interval.value.toFixed(2)} `;
  const range = (interval, text) => element("small", {}, `${text(interval.low)} to ${text(interval.high)}`);
  const count = (names) => { const cell = element("td", {}, String(names.length)); if (names.length) cell.title = names.join(", "); return cell; };
  byId("claims").replaceChildren(...DATA.claims.map((claim) => {
    const change = (v) => `${100 * (v - 1) > 0 ? "+" : "−"}${Math.abs(100 * (v - 1)).toFixed(1)} %`;
    return element("tr", {},
      element("td", { class: "text" }, claim.variant), element("td", { class: "text" }, RUNTIMES[claim.runtime].label), element("td", {}, String(claim.threads)),
      element("td", {}, String(claim.networks)), element("td", {}, `${change(claim.size.value)} `, range(claim.size, change)),
      element("td", { class: claim.time.value > 1 ? "slower" : "" }, times(claim.time), range(claim.time, (v) => v.toFixed(2))),
      element("td", {}, ...(claim.energy ? [times(claim.energy), range(claim.energy, (v) => v.toFixed(2))] : ["–"])),
      element("td", {}, ...(claim.drop ? [`${plainPoints(-claim.drop.value)} `, range({ low: -claim.drop.high, high: -claim.drop.low }, plainPoints)] : ["–"])),
      count(claim.slower), count(claim.faster), count(claim.undecided));
  }));
}

// What is filtered, as CSV; a cell that a spreadsheet would take for a formula gets an apostrophe.
function saveTable(sorting) {
  const ends = (name) => [[name, (row) => row[name] && row[name].value], [`${name}_low`, (row) => row[name] && row[name].low], [`${name}_high`, (row) => row[name] && row[name].high]];
  const bare = (name) => [[name, (row) => row[name]]];
  const fields = [...["network", "variant", "runtime", "threads"].flatMap(bare), ...ends("time"), ...ends("ratio"),
    ...["verdict", "p90", "p99", "cpu", "contended", "size", "parameters", "macs", "peak", "load", "first"].flatMap(bare), ...ends("energy"), ...bare("estimated"),
    ...ends("accuracy"), ...ends("drop"), ...["precision_macro", "recall", "f1", "top5", "ece", "agreement", "n", "precision"].flatMap(bare), ["flags", (row) => row.flags.join("; ")]];
  const quote = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const lines = shownRows(sorting).map((row) => fields.map(([, of]) => quote(of(row))).join(","));
  const blob = new Blob([[fields.map(([name]) => name).join(","), ...lines].join("\n") + "\n"], { type: "text/csv" });
  const link = element("a", { href: URL.createObjectURL(blob), download: "study.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
