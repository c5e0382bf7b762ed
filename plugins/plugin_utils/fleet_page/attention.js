// What needs somebody: failures and what is due, each once with all places, the worst first.

const SEVERITIES = ["bad", "warn", "idle"];
const SIGNS = { bad: "\u2717", warn: "!", idle: "\u2026" };
const PLACES = 3;
const PLACES_ON_PAPER = 30;
const MORE_PLACES = 200;

function grouped(found) {
  const groups = new Map();
  const add = (severity, title, code, remedy, row, message) => {
    const key = [severity, title, code, remedy].join("\n");
    if (!groups.has(key)) groups.set(key, { severity, title, code, remedy, places: [] });
    groups.get(key).places.push({ row, message });
  };
  for (const row of [...found.silent, ...found.unread, ...found.mounts, ...found.centers]) {
    const failed = problem(row);
    if (failed) add("bad", failed.title, failed.code, failed.remedy, row, failed.message);
  }
  for (const row of found.centers) {
    if (row.state !== "healthy")
      add("bad", `A model center is ${plain(row.state)}`, "", "Mount it again with modelfleet.kvm.model_center_mount.", row, row.why);
    for (const drift of row.drift)
      add("warn", plain(drift), "", "Run modelfleet.kvm.model_center_mount again; it repairs what is not right.", row, "");
    if (row.stale_users.length)
      add("warn", "VMs hold something of an earlier mount", "", "Run modelfleet.kvm.mount again; it repairs what is not right.", row, row.stale_users.join(", "));
  }
  for (const row of found.mounts)
    for (const [what, why] of row.due) add(row.drift ? "warn" : "idle", why.replace(/\.$/, ""), "", what, row, "");
  for (const row of found.strays)
    add("warn", "A device of ours that no record is for", "", "Run modelfleet.kvm.vm_model_mount with purge; it takes them away.", row, row.tag);
  const rank = (group) => SEVERITIES.indexOf(group.severity) * 1e9 - group.places.length;
  return [...groups.values()].sort((one, other) => rank(one) - rank(other));
}

function showAttention(found, onPaper) {
  const groups = grouped(found);
  byId("attention-heading").textContent = groups.length ? "What needs somebody" : "Nothing needs anybody";
  if (!groups.length) {
    const right = isFiltered() ? "Nothing of what is looked for needs anybody." : "Every layer of every mount is as its record wants it.";
    fill(byId("attention"), el("p", { class: "notice good" }, HOSTS.length ? right : "There are no hosts in this report."));
    return;
  }
  fill(byId("attention"), el("ul", { class: "groups" }, ...groups.map((one) => group(one, onPaper ? PLACES_ON_PAPER : PLACES))));
}

function group({ severity, title, code, remedy, places }, most) {
  const few = places.slice(0, most);
  const rest = places.slice(most);
  return el(
    "li",
    { class: `group ${severity}` },
    el(
      "h3",
      {},
      el("span", { class: `sign ${severity}`, "aria-hidden": "true" }, SIGNS[severity]),
      ` ${title} `,
      code && el("code", {}, plain(code)),
      el("span", { class: "times" }, `${number(places.length)}\u00d7`),
    ),
    remedy && el("p", { class: "remedy" }, remedy),
    el("ul", { class: "places" }, ...few.map(placeItem)),
    rest.length ? more(rest) : null,
  );
}

function more(places) {
  const node = el("details", { class: "rest" }, el("summary", {}, `${number(places.length)} more`));
  // Made when somebody looks.
  node.addEventListener("toggle", () => {
    if (node.childElementCount > 1) return;
    const left = places.length - MORE_PLACES;
    node.append(el("ul", { class: "places" }, ...places.slice(0, MORE_PLACES).map(placeItem)));
    if (left > 0) node.append(el("p", { class: "quiet" }, `And ${number(left)} more: search and filter to see them.`));
  });
  return node;
}

function placeItem({ row, message }) {
  const where = [row.host, row.vm ?? row.model_center, row.mount_path].filter((part) => part != null && part !== "");
  const shown = where.flatMap((part, index) => [index ? " \u203a " : "", data(part)]);
  return el("li", {}, ...shown, message && el("span", { class: "message" }, data(message)));
}
