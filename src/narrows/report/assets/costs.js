// Costs and the choice, as narrows.plan.predict and narrows.plan.choose do them, in the same order of operations.
// places: {device: {slowdown, active_power_w, idle_power_w, memory_bytes}, link: {…}, cloud: {…}}, all SI.

const TERMS = ["head", "encode", "send", "queue", "tail", "reply"];

// The cost of a candidate at other places than those of its plan.
function moved(old, from, to) {
  const crosses = old.bytes_up > 0;
  const oldService = crosses ? from.cloud.service_s : 0;
  const computing = Math.max(0, old.tail - oldService);
  const cloudFactor = to.cloud.slowdown / from.cloud.slowdown;
  const deviceFactor = to.device.slowdown / from.device.slowdown;
  const cost = {
    head: scaled(old.head, deviceFactor), encode: scaled(old.encode, deviceFactor), send: 0, queue: 0, tail: 0, reply: 0,
    bytes_up: 0, bytes_down: 0, device_macs: old.device_macs, device_memory_bytes: old.device_memory_bytes,
    device_flash_bytes: old.device_flash_bytes,
  };
  if (crosses) {
    const half = to.link.round_trip_s / 2;
    cost.bytes_up = old.bytes_up + (to.link.overhead_bytes_up - from.link.overhead_bytes_up);
    cost.bytes_down = old.bytes_down + (to.link.overhead_bytes_down - from.link.overhead_bytes_down);
    cost.send = cost.bytes_up * 8 / to.link.bandwidth_up_bits_per_s + half;
    cost.reply = cost.bytes_down * 8 / to.link.bandwidth_down_bits_per_s + half;
    cost.queue = to.cloud.queue_s;
    cost.tail = scaled(computing, cloudFactor) + to.cloud.service_s;
  }
  cost.latency_s = TERMS.reduce((sum, name) => sum + cost[name], 0);
  cost.interval_s = Math.max(cost.head + cost.encode, cost.send, cost.tail, cost.reply);
  const waiting = cost.send + cost.queue + cost.tail + cost.reply;
  cost.energy_j = energy(cost, waiting, to);
  cost.price = to.link.price_per_byte * (cost.bytes_up + cost.bytes_down) + to.cloud.price_per_s * cost.tail
    + (crosses ? to.cloud.price_per_call : 0);
  return cost;
}

function scaled(seconds, factor) { return factor === 1 ? seconds : seconds * factor; }

function energy(cost, waiting, places) {
  const { active_power_w: active, idle_power_w: idle } = places.device;
  if (active === null || idle === null) return null;
  const computing = active * (cost.head + cost.encode);
  const radio = places.link.energy_j_per_byte_up * cost.bytes_up + places.link.energy_j_per_byte_down * cost.bytes_down;
  return computing + idle * waiting + radio;
}

// Bounds that the link has no part in, and those it has. A row that was screened out on a part of the examples fits none:
// the planner does not choose it either.
function keepsFixed(row, bounds, places) {
  const memory = [bounds.max_device_memory_bytes, places.device.memory_bytes].filter((bound) => bound !== null);
  return row.whole && atLeast(row.accuracy, bounds.min_accuracy) && atMost(row.drop, bounds.max_drop)
    && atLeast(row.agreement, bounds.min_agreement) && atMost(row.payload_bytes, bounds.max_payload_bytes)
    && atMost(row.device_macs, bounds.max_device_macs) && memory.every((bound) => atMost(row.device_memory_bytes, bound))
    && atMost(row.device_flash_bytes, bounds.max_device_flash_bytes);
}

function keepsMoving(cost, bounds, places) {
  const late = cost.latency_s + (cost.bytes_up > 0 ? places.link.jitter_s : 0);
  const frames = cost.interval_s ? 1 / cost.interval_s : Infinity;
  return atMost(late, bounds.max_latency_s) && atMost(cost.energy_j, bounds.max_energy_j)
    && atMost(cost.price, bounds.max_price) && atLeast(frames, bounds.min_frames_per_s);
}

function atMost(value, bound) { return bound === null || (value !== null && !(value > bound)); }
function atLeast(value, bound) { return bound === null || (value !== null && !(value < bound)); }

function objectiveValue(row, cost, objective) {
  const value = {
    accuracy: -row.accuracy, bytes: row.payload_bytes, latency: cost.latency_s, energy: cost.energy_j, cost: cost.price,
    "device-macs": row.device_macs,
  }[objective];
  return value === null ? Infinity : value;
}

// Ties go to the lower latency, the smaller payload, the fewer MACs, the lower id: `order` counts ids in their order.
function beats(a, b) {
  if (a.value !== b.value) return a.value < b.value;
  if (a.cost.latency_s !== b.cost.latency_s) return a.cost.latency_s < b.cost.latency_s;
  if (a.row.payload_bytes !== b.row.payload_bytes) return a.row.payload_bytes < b.row.payload_bytes;
  if (a.row.device_macs !== b.row.device_macs) return a.row.device_macs < b.row.device_macs;
  return a.row.order < b.row.order;
}

// The best of some rows that already keep the fixed bounds; null when none fits.
function choose(rows, from, to, bounds, objective) {
  let best = null;
  for (const row of rows) {
    const cost = moved(row, from, to);
    if (!keepsMoving(cost, bounds, to)) continue;
    const found = { row, cost, value: objectiveValue(row, cost, objective) };
    if (best === null || beats(found, best)) best = found;
  }
  return best;
}

// The plan's link at another bandwidth and round trip; the downlink keeps its ratio to the uplink.
function linked(places, bandwidth, roundTrip) {
  const link = places.link;
  const down = link.bandwidth_down_bits_per_s / link.bandwidth_up_bits_per_s * bandwidth;
  return {
    ...places,
    link: { ...link, bandwidth_up_bits_per_s: bandwidth, bandwidth_down_bits_per_s: down, round_trip_s: roundTrip },
  };
}

// Rows that no other beats at any link whatever the objective: nowhere more, and first in a tie.
function unbeaten(rows) {
  const keys = ["head", "encode", "tail", "bytes_up", "bytes_down", "device_macs", "payload_bytes"];
  const better = (a, b) => {
    for (const key of keys) if (a[key] > b[key]) return false;
    if (a.accuracy < b.accuracy) return false;
    if (a.payload_bytes !== b.payload_bytes) return true;
    return a.device_macs !== b.device_macs || a.order < b.order;
  };
  return rows.filter((row) => !rows.some((other) => other !== row && better(other, row)));
}

// Winners over bandwidths (columns) × round trips (rows).
function winnersMap(rows, from, to, bounds, objective, bandwidths, roundTrips) {
  const fitting = unbeaten(rows.filter((row) => keepsFixed(row, bounds, to)));
  return roundTrips.map((trip) => bandwidths.map((band) => choose(fitting, from, linked(to, band, trip), bounds, objective)));
}
