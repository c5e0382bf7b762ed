// Model centers, each on one line for all hosts.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

function size(bytes) {
  if (bytes == null) return "not known";
  const step = Math.min(bytes > 0 ? Math.floor(Math.log10(bytes) / 3) : 0, UNITS.length - 1);
  const value = bytes / 1000 ** step;
  return `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 })} ${UNITS[step]}`;
}

function showCenters(found) {
  byId("centers-section").hidden = !found.centers.length;
  const names = new Map();
  for (const row of found.centers) {
    if (!names.has(row.model_center)) names.set(row.model_center, []);
    names.get(row.model_center).push(row);
  }
  const head = ["Name", "Hosts", "Healthy", "Free", "Size"];
  const lines = [...names].map(([name, rows]) => {
    const healthy = rows.filter((row) => row.state === "healthy").length;
    const known = rows.filter((row) => row.total_bytes != null);
    const least = known.reduce(
      (one, other) => (other.available_bytes < one.available_bytes ? other : one),
      known[0] || {},
    );
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, data(name)),
      el("td", {}, number(rows.length)),
      el(
        "td",
        { class: healthy === rows.length ? "good" : "bad" },
        healthy === rows.length ? "all" : `${number(healthy)} of ${number(rows.length)}`,
      ),
      el("td", {}, size(least.available_bytes)),
      el("td", {}, size(least.total_bytes)),
    );
  });
  const columns = head.map((label) => el("th", { scope: "col" }, label));
  fill(
    byId("centers"),
    el(
      "div",
      { class: "wide", tabindex: "0", role: "region", "aria-label": "Model centers" },
      el("table", { class: "plain" }, el("thead", {}, el("tr", {}, ...columns)), el("tbody", {}, ...lines)),
    ),
  );
}
