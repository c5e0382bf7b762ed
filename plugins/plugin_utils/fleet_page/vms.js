// Each VM with its mounts, and each mount with its layers.

const VMS_AT_ONCE = 40;
const VMS_ON_PAPER = 1000;

function showVms(found) {
  const mounts = groupBy(found.mounts, placeOf);
  const strays = groupBy(found.strays, placeOf);
  byId("vms-heading").textContent = `VMs and their mounts (${number(found.vms.length)})`;
  const place = el("div", { class: "vm-list" });
  fill(byId("vms"), place, found.vms.length ? null : el("p", { class: "quiet" }, "None."));
  new Parts(
    place,
    found.vms,
    (row) => vm(row, mounts.get(placeOf(row)) || [], strays.get(placeOf(row)) || []),
    VMS_AT_ONCE,
    VMS_ON_PAPER,
  );
}

function groupBy(rows, key) {
  const groups = new Map();
  for (const row of rows) {
    if (!groups.has(key(row))) groups.set(key(row), []);
    groups.get(key(row)).push(row);
  }
  return groups;
}

function showLegend() {
  const layers = LAYERS.flatMap(([_name, label, meaning]) => [el("b", {}, label), ` ${meaning}. `]);
  const words = Object.entries(WORDS).map(([word, [sign, kind]]) =>
    el("span", { class: "key-word" }, el("span", { class: `sign ${kind}`, "aria-hidden": "true" }, sign), ` ${word}`),
  );
  fill(byId("legend"), ...layers, ...words);
}

function vm(row, mounts, strays) {
  const failed = problem(row);
  const drift = mounts.filter((mount) => mount.drift).length + strays.length;
  return el(
    "article",
    { class: "vm" },
    el(
      "header",
      {},
      el("h3", {}, data(row.vm)),
      el("span", { class: "quiet" }, "on ", data(row.host)),
      row.vm_state &&
        el("span", { class: `badge ${row.vm_state === "running" ? "good" : "idle"}` }, data(row.vm_state)),
      drift ? el("span", { class: "badge warn" }, `${number(drift)} drifted`) : null,
      failed ? el("span", { class: "badge bad" }, "cannot be read") : null,
    ),
    failed && failure(failed),
    ...mounts.map(mountItem),
    ...strays.map((stray) =>
      el(
        "p",
        { class: "line warn" },
        "A device that no record is for, tag ",
        data(stray.tag),
        ", of ",
        data(stray.source_path),
      ),
    ),
  );
}

function mountItem(mount) {
  const failed = problem(mount);
  const node = el(
    "details",
    { class: "mount" },
    el(
      "summary",
      {},
      el(
        "span",
        { class: "what" },
        el("b", {}, data(modelName(mount))),
        " ",
        el("span", { class: "path" }, data(mount.mount_path)),
      ),
      el("span", { class: `status ${STATUSES[mount.status] || "idle"}` }, data(mount.status)),
      el("span", { class: "layers" }, ...LAYERS.map(([name, label]) => layer(label, mount[name]))),
    ),
  );
  node.addEventListener("toggle", () => {
    if (node.childElementCount === 1) node.append(detailsOf(mount));
  });
  return el(
    "div",
    { class: mount.drift || failed ? "mount-box off" : "mount-box" },
    node,
    failed && failure(failed),
    ...[...groupBy(mount.due, ([what]) => what)].map(([what, due]) =>
      el(
        "p",
        { class: `line ${mount.drift ? "warn" : "idle"}` },
        `${due.map(([_what, why]) => why).join(" ")} `,
        el("b", {}, what),
      ),
    ),
  );
}

function layer(label, word) {
  const [sign, kind] = WORDS[word] || ["?", "warn"];
  return el(
    "span",
    { class: `layer ${kind}` },
    el("i", {}, label),
    " ",
    el("span", { class: "word" }, el("span", { "aria-hidden": "true" }, `${sign} `), data(word)),
  );
}

function failure({ code, message, remedy }) {
  return el(
    "p",
    { class: "line bad" },
    code && el("code", {}, plain(code)),
    " ",
    data(message),
    " ",
    el("b", {}, remedy),
  );
}

function detailsOf(mount) {
  const shown = [
    ["Model center", mount.model_center],
    ["Model in it", mount.model_path],
    ["Transport", mount.transport],
    ["Tag", mount.tag],
    ["Owner", mount.owner],
    ["Account", mount.account_uuid],
    ["Source on the host", mount.source_path],
    ["Created", mount.create_date],
    ["Last changed", mount.last_op_date],
    ["UUID of the model", mount.model_uuid],
    ["UUID of the mount", mount.uuid],
  ];
  const known = shown.filter(([_label, value]) => value);
  return el("dl", {}, ...known.map(([label, value]) => el("div", {}, el("dt", {}, label), el("dd", {}, data(value)))));
}
