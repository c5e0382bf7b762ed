// What is looked for, kept in the address so that a link shows the same.

const WANTED = { q: "", host: "", model: "", state: "", account: "", drift: "" };
const NO_ACCOUNT = "-";

function options(select, rest, values) {
  fill(
    select,
    el("option", { value: "" }, rest),
    ...values.map(([value, label]) => el("option", { value }, plain(label, 70))),
  );
}

const each = (rows, value, label = value) => {
  const found = new Map(rows.map((row) => [value(row), label(row)]));
  return [...found].sort((one, other) => one[1].localeCompare(other[1], "en", { numeric: true }));
};

function offerFilters() {
  options(
    byId("f-host"),
    "all hosts",
    each(HOSTS, (row) => row.host),
  );
  options(
    byId("f-model"),
    "all models",
    each(MOUNTS, (row) => row.model_uuid, modelName),
  );
  options(byId("f-state"), "all states", [
    ...each(MOUNTS, (row) => row.status),
    ["error", "with an error"],
    ["due", "with something due"],
  ]);
  const accounts = each(
    MOUNTS.filter((row) => row.account_uuid),
    (row) => row.account_uuid,
  );
  if (accounts.length && MOUNTS.some((row) => !row.account_uuid)) accounts.unshift([NO_ACCOUNT, "no account"]);
  options(byId("f-account"), "all accounts", accounts);
  byId("f-account").parentElement.hidden = !accounts.length;
  for (const name of Object.keys(WANTED)) {
    const control = byId(`f-${name}`);
    control.addEventListener("input", () =>
      want({ [name]: name === "drift" ? (control.checked ? "1" : "") : control.value }),
    );
  }
  byId("f-clear").addEventListener("click", () => want(null));
  byId("f-toggle").addEventListener("click", (event) => {
    const open = byId("f-more").classList.toggle("open");
    event.target.setAttribute("aria-expanded", open);
  });
  addEventListener("hashchange", () => {
    fromAddress();
    show();
  });
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      byId("f-q").focus();
    } else if (event.key === "Escape" && isFiltered()) want(null);
  });
  fromAddress();
}

const isFiltered = () => Object.values(WANTED).some(Boolean);

// Look for something else; null for everything.
function want(changes) {
  for (const name of Object.keys(WANTED)) WANTED[name] = changes ? (changes[name] ?? WANTED[name]) : "";
  const given = Object.entries(WANTED).filter(([_name, value]) => value);
  try {
    history.replaceState(null, "", `#${new URLSearchParams(given)}`);
  } catch {
    // A page in a frame of somebody else's may have no address to write to.
  }
  show();
}

function only(changes) {
  for (const name of Object.keys(WANTED)) WANTED[name] = "";
  want(changes);
}

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(WANTED)) WANTED[name] = given.get(name) || "";
}

function showFilters(found) {
  for (const [name, value] of Object.entries(WANTED)) {
    const control = byId(`f-${name}`);
    if (name === "drift") control.checked = Boolean(value);
    else if (control.value !== value) control.value = value;
    control.classList.toggle("set", Boolean(value));
  }
  byId("f-clear").disabled = !isFiltered();
  byId("found").textContent = isFiltered()
    ? `${number(found.mounts.length)} of ${plural(MOUNTS.length, "mount")}, in ${plural(found.vms.length, "VM")}`
    : "";
}

// The rows of every table that are looked for. A host, a VM or a center has no model and no account, and the state
// "with an error" only.
function find() {
  const words = WANTED.q.toLowerCase().split(/\s+/).filter(Boolean);
  const meant = (row) => (!WANTED.host || row.host === WANTED.host) && words.every((word) => row.has(word));
  const ofMount = (row) =>
    (!WANTED.model || row.model_uuid === WANTED.model) &&
    (!WANTED.account || (row.account_uuid || NO_ACCOUNT) === WANTED.account) &&
    (!WANTED.drift || row.drift) &&
    (!WANTED.state ||
      (WANTED.state === "error" ? row.problem : WANTED.state === "due" ? row.due.length : row.status === WANTED.state));
  const others = !WANTED.model && !WANTED.account && (!WANTED.state || WANTED.state === "error");
  const mounts = MOUNTS.filter((row) => ofMount(row) && meant(row));
  const unread = others && !WANTED.drift ? VMS.filter((row) => row.problem && meant(row)) : [];
  const strays = others && !WANTED.state ? STRAYS.filter(meant) : [];
  const seen = new Set([...mounts, ...unread, ...strays].map(placeOf));
  const vms = VMS.filter((row) => seen.has(placeOf(row)));
  const silent = others && !WANTED.drift ? HOSTS.filter((row) => row.problem && meant(row)) : [];
  const hosts = new Set([...mounts, ...unread, ...strays, ...silent].map((row) => row.host));
  return {
    mounts,
    unread,
    strays,
    vms,
    silent,
    centers: others ? CENTERS.filter((row) => meant(row) && (!WANTED.drift || row.drift.length)) : [],
    hosts: isFiltered() ? HOSTS.filter((row) => hosts.has(row.host)) : HOSTS,
  };
}

const placeOf = (row) => `${row.host}\n${row.vm}`;
