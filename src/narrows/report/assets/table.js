// The table: sorted by any column, filtered by text, route and frontier.

const FIRST_ROWS = 150;

function tableColumns(plan) {
  const metric = plan.demonstration ? `${DATA.metric_name}, demonstration, n = ${plan.n}` : DATA.metric_name;
  return [
    { key: "name", label: "candidate", text: true, value: (row) => row.name, fill: nameCell },
    { key: "latency", label: "time to answer", value: (row) => row.latency_s, fill: timeCell },
    { key: "payload", label: "payload", value: (row) => row.payload_bytes, show: (row) => (row.route === "local" ? "–" : bytesText(row.payload_bytes)) },
    { key: "drop", label: "drop [95 %]", value: (row) => row.drop, show: (row) => dropInterval(row, plan) },
    { key: "macs", label: "device MACs", value: (row) => row.device_macs, show: (row) => percentText(row.device_macs / (DATA.networks[row.network].total_macs || 1)) },
    { key: "accuracy", label: metric, value: (row) => row.accuracy, show: (row) => metricText(row.accuracy, plan.share) },
    { key: "n", label: "n", value: (row) => row.n, show: (row) => (row.whole ? String(row.n) : `${row.n} of ${plan.n}`) },
    { key: "agreement", label: "agreement", value: (row) => row.agreement ?? -1, show: (row) => (row.agreement === null ? "–" : percentText(row.agreement)) },
    { key: "reported", label: "report set: drop", value: (row) => (row.report ? row.report.drop : Infinity), show: (row) => reportText(row, plan) },
    { key: "p95", label: "95th percentile", value: (row) => row.payload_bytes_p95, show: (row) => (row.route === "local" ? "–" : bytesText(row.payload_bytes_p95)) },
    { key: "wire", label: "on the wire ↑ / ↓", value: (row) => row.bytes_up, show: (row) => (row.bytes_up ? `${bytesText(row.bytes_up)} / ${bytesText(row.bytes_down)}` : "–") },
    { key: "memory", label: "device memory", value: (row) => row.device_memory_bytes, show: (row) => bytesText(row.device_memory_bytes) },
    { key: "flash", label: "file on device", value: (row) => row.device_flash_bytes, show: (row) => bytesText(row.device_flash_bytes) },
    { key: "energy", label: "device energy", value: (row) => row.energy_j ?? Infinity, show: (row) => (row.energy_j === null ? "–" : joulesText(row.energy_j)), estimate: true },
    { key: "price", label: "price", value: (row) => row.price, show: (row) => row.price.toPrecision(3), estimate: true },
    { key: "tensor", label: "tensor", text: true, value: (row) => row.tensor || "", show: (row) => row.tensor || "" },
  ];
}

function dropInterval(row, plan) {
  const bare = (value) => (plan.share ? (100 * value).toFixed(1) : digits(value));
  return `${bare(row.drop)} [${bare(row.low)}, ${bare(row.high)}]`;
}

function reportText(row, plan) { return row.report ? `${dropInterval(row.report, plan)}, n = ${row.report.n}` : "–"; }

function nameCell(cell, row, plan) {
  const mark = element("i", { class: "swatch", "aria-hidden": "true" });
  mark.style.background = regionColour(plan, row);
  const star = row.index === plan.chosen ? "★ " : row.on_frontier ? "● " : "";
  cell.title = row.id;
  cell.append(mark, star + row.name);
}

function timeCell(cell, row, plan) {
  const bar = element("span", { class: "terms", "aria-hidden": "true" });
  for (const term of TERMS) {
    const part = element("i");
    part.style.background = tone(DATA.palette.terms[term]);
    part.style.width = `${100 * row[term] / (row.latency_s || 1)}%`;
    bar.append(part);
  }
  const measured = TERMS.every((term) => row.measured[term] || row[term] === 0);
  cell.title = TERMS.map((term) => `${term} ${secondsText(row[term])} ${row.measured[term] ? "measured" : "predicted"}`).join(", ");
  cell.append(bar, element("span", measured ? {} : { class: "predicted" }, secondsText(row.latency_s)));
}

function shownRows(plan, sorting) {
  const words = byId("table-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const route = byId("table-route").value;
  const frontier = byId("table-frontier").checked;
  const rows = plan.rows.filter((row) => (route === "all" || row.route === route) && (!frontier || row.on_frontier)
    && words.every((word) => row.search.includes(word)));
  const column = tableColumns(plan).find((candidate) => candidate.key === sorting.key);
  const order = (a, b) => (column.text ? a.localeCompare(b, undefined, { numeric: true }) : a === b ? 0 : a - b);
  const first = (row) => (row.index === plan.chosen ? 0 : 1);
  return rows.sort((a, b) => first(a) - first(b) || sorting.sign * order(column.value(a), column.value(b)) || a.order - b.order);
}

function drawTable(plan, sorting, redraw) {
  const columns = tableColumns(plan);
  byId("table-head").replaceChildren(...columns.map((column) => {
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
  const rows = shownRows(plan, sorting);
  const visible = sorting.all ? rows : rows.slice(0, FIRST_ROWS);
  byId("table-body").replaceChildren(...visible.map((row) => {
    const cells = columns.map((column) => {
      const cell = element("td", { class: `${column.text ? "text" : ""}${column.estimate ? " predicted" : ""}` });
      if (column.fill) column.fill(cell, row, plan);
      else cell.textContent = column.show(row);
      return cell;
    });
    return element("tr", row.index === plan.chosen ? { class: "chosen" } : {}, ...cells);
  }));
  const count = [`${rows.length} of ${plan.rows.length} candidates`];
  if (visible.length < rows.length) {
    const more = element("button", { type: "button", class: "plain" }, "show all");
    more.addEventListener("click", () => { sorting.all = true; redraw(); });
    count.push(`, the first ${FIRST_ROWS} shown `, more);
  }
  byId("table-count").replaceChildren(...count);
}

// What is filtered, as CSV; a cell that a spreadsheet would take for a formula gets an apostrophe.
function saveTable(plan, sorting) {
  const keys = ["id", "route", "codec", "cut", "tensor", "payload_bytes", "payload_bytes_p95", "bytes_up", "bytes_down", "n", "accuracy", "drop",
    "low", "high", "agreement", "device_macs", "device_memory_bytes", "device_flash_bytes", "latency_s", ...TERMS, "energy_j", "price", "on_frontier"];
  const quote = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const lines = shownRows(plan, sorting).map((row) => keys.map((key) => quote(row[key])).join(","));
  const blob = new Blob([[keys.join(","), ...lines].join("\n") + "\n"], { type: "text/csv" });
  const link = element("a", { href: URL.createObjectURL(blob), download: "candidates.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
