// Keeps the first page's counts alive. Text goes in as text only.
const table = document.querySelector("#channels tbody");
const link = document.querySelector("#link");
const numbers = new Intl.NumberFormat("en");
const waiting = new Map(); // the age cell of each channel -> when its oldest came

const FIELDS = {
  state: (channel) => channel.state,
  destinations: (channel) => troubles(channel.destinations),
  connections: (channel) => numbers.format(channel.connections),
  received: (channel) => numbers.format(channel.today.received),
  filtered: (channel) => numbers.format(channel.today.filtered),
  failed: (channel) => numbers.format(channel.today.failed),
  queued: (channel) => numbers.format(channel.queued),
  delivered: (channel) => numbers.format(channel.today.delivered),
  dead: (channel) => numbers.format(channel.dead),
  oldest: (channel) => age(channel.oldest_at),
};

const STATES = { held: "held by its file", open: "left alone", half_open: "left alone", busy: "asked for time" };

function troubles(destinations) {
  const told = destinations.filter((each) => !["running", "stopped"].includes(each.state));
  return told.map((each) => `${each.destination} ${STATES[each.state] ?? each.state}`).join(", ") || "–";
}

function age(at) {
  if (at === null) return "–";
  const seconds = Math.max(0, (Date.now() - Date.parse(at)) / 1000);
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
  }
  return `${Math.round(seconds)} s`;
}

function put(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

function rowOf(name) {
  for (const row of table.rows) if (row.dataset.channel === name) return row;
  const row = table.insertRow();
  row.dataset.channel = name;
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = name;
  row.append(head);
  for (const field of Object.keys(FIELDS)) {
    const cell = row.insertCell();
    cell.dataset.field = field;
    if (!["state", "destinations"].includes(field)) cell.className = "number";
  }
  return row;
}

function show(picture) {
  const intake = document.querySelector("#intake");
  intake.hidden = !picture.intake.reason;
  put(intake.querySelector("span"), picture.intake.reason);
  const names = new Set(picture.channels.map((channel) => channel.channel));
  for (const row of [...table.rows]) {
    if (!names.has(row.dataset.channel)) {
      waiting.delete(row.querySelector('[data-field="oldest"]'));
      row.remove();
    }
  }
  for (const channel of picture.channels) {
    const row = rowOf(channel.channel);
    for (const [field, text] of Object.entries(FIELDS)) {
      const cell = row.querySelector(`[data-field="${field}"]`);
      put(cell, text(channel));
      if (field === "state") cell.dataset.state = channel.state;
      if (field === "dead") cell.dataset.attention = String(channel.dead > 0);
      if (field === "oldest") waiting.set(cell, channel.oldest_at);
    }
  }
}

const events = new EventSource("/events");
events.addEventListener("open", () => put(link, "live"));
events.addEventListener("error", () => put(link, "not connected; trying again"));
events.addEventListener("counters", (event) => show(JSON.parse(event.data)));
setInterval(() => waiting.forEach((at, cell) => put(cell, age(at))), 1000);
