// The data as rows, and what the words in it look like.

function decoded(table) {
  const names = Object.keys(table);
  const columns = names.map((name) => {
    const column = table[name];
    return Array.isArray(column) ? column : column.at.map((place) => column.of[place]);
  });
  return (columns[0] || []).map((_first, row) => {
    const made = {};
    names.forEach((name, index) => (made[name] = columns[index][row]));
    return made;
  });
}

const FLEET = JSON.parse(byId("data").textContent);
const HOSTS = decoded(FLEET.tables.hosts);
const CENTERS = decoded(FLEET.tables.model_centers);
const VMS = decoded(FLEET.tables.vms);
const MOUNTS = decoded(FLEET.tables.mounts);
const STRAYS = decoded(FLEET.tables.strays);

const problem = (row) => {
  if (!row.problem) return null;
  const [code, title, message, remedy] = row.problem;
  return { code, title, message, remedy };
};

const LAYERS = [
  ["source", "Source", "the model, bound on the host"],
  ["persistent", "Persistent", "the device in the VM's persistent XML"],
  ["live", "Live", "the device in the running VM"],
  ["guest", "Guest", "the mount in the guest"],
];
// Sign and kind of a layer's words, so that nobody needs to tell colours apart.
const WORDS = {
  right: ["\u2713", "good"],
  missing: ["\u2717", "bad"],
  wrong: ["\u2260", "bad"],
  foreign: ["\u2298", "bad"],
  unknown: ["?", "warn"],
  "not due": ["\u2013", "idle"],
};
const STATUSES = { Mounted: "good", Attached: "idle", Mounting: "warn", Unmounting: "warn", MountFailed: "bad" };

const NAMED = new Map();
const bareName = (mount) => mount.model + (mount.model_version ? ` ${mount.model_version}` : "");
for (const mount of MOUNTS) NAMED.set(bareName(mount), (NAMED.get(bareName(mount)) || new Set()).add(mount.model_uuid));

// With its center where two of them have a model of that name.
const modelName = (mount) => bareName(mount) + (NAMED.get(bareName(mount)).size > 1 ? ` (${mount.model_center})` : "");

// Texts are compared as they are shown to whoever types them, in either case.
const searched = (row) =>
  Object.entries(row)
    .flatMap(([name, value]) => (name === "due" || name === "problem" ? (value || []).flat() : [value]))
    .filter((value) => typeof value === "string" && value)
    .join("\n")
    .toLowerCase();

for (const row of [...HOSTS, ...CENTERS, ...VMS, ...MOUNTS, ...STRAYS]) {
  Object.defineProperty(row, "text", {
    configurable: true,
    get() {
      const text = searched(this);
      Object.defineProperty(this, "text", { value: text });
      return text;
    },
  });
}
