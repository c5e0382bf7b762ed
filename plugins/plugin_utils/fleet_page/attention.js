// What needs somebody: failures and what is due, each once with all places, the worst first.

const SEVERITIES = ["bad", "warn", "idle"];
const SIGNS = { bad: "\u2717", warn: "!", idle: "\u2026" };
const REPAIR = "Run modelfleet.kvm.mount again; it repairs what is not right.";
// The heading of what has one remedy and several reasons.
const MANY = { bad: "Failed", warn: "Not as recorded", idle: "Waiting" };
const GROUPS = 8;
const PLACES = 3;
const PLACES_ON_PAPER = 30;
const MORE_PLACES = 200;

function grouped(found) {
  const groups = new Map();
  const add = (severity, title, code, remedy, row, message = "") => {
    // What the same remedy is for is one thing to do.
    const key = [severity, code ? title : "", code, remedy].join("\n");
    if (!groups.has(key)) groups.set(key, { severity, titles: new Set(), code, remedy, places: new Map() });
    const group = groups.get(key);
    group.titles.add(title);
    if (!group.places.has(row)) group.places.set(row, []);
    group.places.get(row).push({ title, message });
  };
  for (const row of [...found.silent, ...found.unread, ...found.mounts, ...found.centers]) {
    const failed = problem(row);
    if (failed) add("bad", failed.title, failed.code, failed.remedy, row, failed.message);
  }
  const again = "Run modelfleet.kvm.model_center_mount again; it repairs what is not right.";
  for (const row of found.centers) {
    if (row.state !== "healthy") add("bad", `The model center is ${plain(row.state)}`, "", again, row, row.why);
    for (const drift of row.drift) add("warn", `The model center has drifted: ${plain(drift)}`, "", again, row);
    if (row.stale_users.length)
      add("warn", "VMs hold something of an earlier mount", "", REPAIR, row, row.stale_users.join(", "));
  }
  for (const row of found.mounts)
    for (const [what, why] of row.due) add(row.drift ? "warn" : "idle", why.replace(/\.$/, ""), "", what, row);
  const purge = "Run modelfleet.kvm.vm_model_mount with purge; it takes them away.";
  for (const row of found.strays) add("warn", "Devices that no record is for", "", purge, row, `tag ${row.tag}`);
  const rank = (group) => SEVERITIES.indexOf(group.severity) * 1e9 - group.places.size;
  return [...groups.values()].sort((one, other) => rank(one) - rank(other));
}

function showAttention(found, onPaper) {
  const groups = grouped(found);
  byId("attention-heading").textContent = groups.length ? "What needs somebody" : "Nothing needs anybody";
  if (!groups.length) {
    const right = isFiltered()
      ? "Nothing of what is looked for needs anybody."
      : "Every layer of every mount is as its record wants it.";
    fill(
      byId("attention"),
      el("p", { class: "notice good" }, HOSTS.length ? right : "There are no hosts in this report."),
    );
    return;
  }
  const made = groups.map((one) => group(one, onPaper ? PLACES_ON_PAPER : PLACES));
  const most = onPaper ? made.length : GROUPS;
  fill(
    byId("attention"),
    el("ul", { class: "groups" }, ...made.slice(0, most)),
    made.length > most
      ? el(
          "details",
          { class: "rest" },
          el("summary", {}, `${number(made.length - most)} more`),
          el("ul", { class: "groups" }, ...made.slice(most)),
        )
      : null,
  );
}

function group({ severity, titles, code, remedy, places }, most) {
  const one = titles.size === 1;
  const items = [...places].map(([row, found]) =>
    placeItem(
      row,
      found.flatMap(({ title, message }) => [one ? "" : title, message]),
    ),
  );
  return el(
    "li",
    { class: `group ${severity}` },
    el("span", { class: "times" }, `${number(places.size)}\u00d7`),
    el(
      "h3",
      {},
      el("span", { class: `sign ${severity}`, "aria-hidden": "true" }, SIGNS[severity]),
      ` ${one ? [...titles][0] : MANY[severity]} `,
      code && el("code", {}, plain(code)),
    ),
    remedy && el("p", { class: "remedy" }, remedy),
    el("ul", { class: "places" }, ...items.slice(0, most).map((make) => make())),
    items.length > most ? more(items.slice(most)) : null,
  );
}

function more(items) {
  const node = el("details", { class: "rest" }, el("summary", {}, `${number(items.length)} more`));
  // Made when somebody looks.
  node.addEventListener("toggle", () => {
    if (node.childElementCount > 1) return;
    const left = items.length - MORE_PLACES;
    node.append(el("ul", { class: "places" }, ...items.slice(0, MORE_PLACES).map((make) => make())));
    if (left > 0) node.append(el("p", { class: "quiet" }, `And ${number(left)} more: search and filter to see them.`));
  });
  return node;
}

const placeItem = (row, said) => () => {
  const where = [row.host, row.vm ?? row.model_center, row.mount_path].filter((part) => part != null && part !== "");
  const shown = where.flatMap((part, index) => [index ? " \u203a " : "", data(part)]);
  const message = said.filter(Boolean).join("; ");
  return el("li", {}, ...shown, message && el("span", { class: "message" }, data(message)));
};
