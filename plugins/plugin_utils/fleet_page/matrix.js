// Hosts and models: how many VMs of a host have a model, and where something is not right.

const COLUMNS = 80;
const COLUMNS_ON_PAPER = 22;
const ROWS = 60;
const ROWS_ON_PAPER = 600;

function showMatrix(found, onPaper) {
  const cells = new Map();
  const models = new Map();
  for (const row of found.mounts) {
    if (!models.has(row.model_uuid))
      models.set(row.model_uuid, { uuid: row.model_uuid, name: modelName(row), count: 0 });
    models.get(row.model_uuid).count += 1;
    const key = `${row.host}\n${row.model_uuid}`;
    if (!cells.has(key)) cells.set(key, { count: 0, drift: 0 });
    const cell = cells.get(key);
    cell.count += 1;
    cell.drift += row.drift ? 1 : 0;
  }
  const columns = [...models.values()].sort(
    (one, other) => other.count - one.count || one.name.localeCompare(other.name, "en", { numeric: true }),
  );
  if (!found.hosts.length) {
    fill(byId("matrix"), el("p", { class: "quiet" }, "No host."));
    return;
  }
  const width = onPaper ? COLUMNS_ON_PAPER : COLUMNS;
  const tables = [];
  for (let at = 0; at === 0 || (onPaper && at < columns.length); at += width)
    tables.push(matrix(found.hosts, columns.slice(at, at + width), cells));
  const left = onPaper ? 0 : columns.length - width;
  fill(
    byId("matrix"),
    ...tables,
    left > 0
      ? el("p", { class: "quiet" }, `And ${plural(left, "model")} with fewer mounts: search and filter to see them.`)
      : null,
  );
  // A list is told where it goes on only where it stands in the page.
  for (const table of tables) table.start();
}

function matrix(hosts, columns, cells) {
  const body = el("tbody");
  const heads = columns.map((model) =>
    el(
      "th",
      { scope: "col", title: plain(model.name) },
      el("button", { type: "button", onclick: () => want({ model: model.uuid }) }, el("span", {}, data(model.name))),
    ),
  );
  const row = (host) =>
    el(
      "tr",
      {},
      el(
        "th",
        { scope: "row", title: plain(host.host) },
        el("button", { type: "button", onclick: () => want({ host: host.host }) }, data(host.host)),
      ),
      ...ofHost(host, columns, cells),
    );
  const corner = el("th", { class: "corner", scope: "col" }, "Host");
  const table = el(
    "table",
    { class: "matrix" },
    el("caption", {}, "VMs of each host that have each model"),
    el("thead", {}, el("tr", {}, corner, ...heads)),
    body,
  );
  table.addEventListener("keydown", (event) => walk(event, table));
  const node = el(
    "div",
    { class: "wide matrix-box", role: "region", "aria-label": "Hosts and models", tabindex: "0" },
    table,
  );
  node.start = () => new Parts(body, hosts, row, ROWS, ROWS_ON_PAPER, table);
  return node;
}

function ofHost(host, columns, cells) {
  if (host.state !== "answered")
    return [el("td", { colspan: Math.max(columns.length, 1), class: "silent" }, data(host.state))];
  return columns.map((model) => {
    const cell = cells.get(`${host.host}\n${model.uuid}`);
    if (!cell) return el("td", { class: "none" });
    const drifted = cell.drift ? `, ${number(cell.drift)} drifted` : "";
    const label = `${plain(host.host, 60)}, ${plain(model.name, 60)}: ${plural(cell.count, "mount")}${drifted}`;
    return el(
      "td",
      { class: cell.drift ? "warn" : "good" },
      el(
        "button",
        {
          type: "button",
          tabindex: "-1",
          title: label,
          "aria-label": label,
          onclick: () => want({ host: host.host, model: model.uuid }),
        },
        number(cell.count),
        cell.drift ? el("sup", {}, "!") : "",
      ),
    );
  });
}

// Arrows go from cell to cell, so that Tab need not stop at each.
function walk(event, table) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const cell = event.target.closest("th, td");
  if (!step || !cell) return;
  event.preventDefault();
  let [row, column] = [cell.parentElement.rowIndex + step[0], cell.cellIndex + step[1]];
  while (table.rows[row]?.cells[column]) {
    const button = table.rows[row].cells[column].querySelector("button");
    if (button) {
      button.focus();
      return;
    }
    row += step[0];
    column += step[1];
  }
}
