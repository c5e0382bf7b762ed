// The whole fleet in a few numbers, whatever is looked for.

function showGlance() {
  const all = FLEET.summary;
  const silent = all.hosts - all.hosts_answered;
  const tile = (count, label, more, kind, filter) => {
    const inside = [
      el("span", { class: "count" }, number(count)),
      el("span", { class: "label" }, label),
      el("span", { class: "quiet" }, more),
    ];
    const attributes = { class: `tile ${kind}` };
    if (!filter || !count) return el("div", attributes, ...inside);
    return el("button", { ...attributes, type: "button", onclick: () => only(filter) }, ...inside);
  };
  const right = MOUNTS.filter((row) => !row.drift).length;
  fill(
    byId("tiles"),
    tile(
      all.hosts,
      all.hosts === 1 ? "host" : "hosts",
      silent ? `${number(silent)} not seen` : "all answered",
      silent ? "bad" : "",
    ),
    tile(all.vms, all.vms === 1 ? "VM" : "VMs", "with models", ""),
    tile(all.models, all.models === 1 ? "model" : "models", "in use", ""),
    tile(all.mounts, all.mounts === 1 ? "mount" : "mounts", `${number(right)} in order`, ""),
    tile(all.drift, "drift", all.drift ? "not as recorded" : "none", all.drift ? "warn" : "good", { drift: "1" }),
    tile(all.due, "due", all.due ? "wait for somebody" : "nothing", all.due ? "warn" : "good", { state: "due" }),
    tile(
      all.errors,
      all.errors === 1 ? "error" : "errors",
      all.errors ? "see below" : "none",
      all.errors ? "bad" : "good",
      { state: "error" },
    ),
  );
  const counts = new Map();
  for (const row of MOUNTS) counts.set(row.status, (counts.get(row.status) || 0) + 1);
  const bar = el("div", { class: "bar", "aria-hidden": "true" });
  const legend = el("ul", { class: "keys" });
  for (const status of new Set([...Object.keys(STATUSES), ...counts.keys()])) {
    const count = counts.get(status);
    if (!count) continue;
    const kind = STATUSES[status] || "idle";
    const part = el("span", { class: kind });
    part.style.flexGrow = count;
    bar.append(part);
    legend.append(
      el(
        "li",
        {},
        el(
          "button",
          { type: "button", class: `key ${kind}`, onclick: () => only({ state: status }) },
          data(status),
          ` ${number(count)}`,
        ),
      ),
    );
  }
  if (MOUNTS.length) fill(byId("statuses"), bar, legend);
}
