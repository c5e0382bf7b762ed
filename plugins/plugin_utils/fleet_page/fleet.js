// The data as rows, and what the words in it look like.

// What is told apart by digits that say nothing, so that a few of them are found everywhere.
const IDS = new Set(["uuid", "vm_uuid", "model_uuid", "account_uuid", "source_path", "alias"]);
const LONG = 8;

// Rows look into the columns of their table, which costs nothing for those that are not looked at.
function rows(table) {
  const searched = (row, wanted) => {
    let text = "";
    for (const name of wanted) {
      const value = row[name];
      if (typeof value === "string") text += `${value}\n`;
      else if (Array.isArray(value)) text += `${value.flat().join("\n")}\n`;
    }
    return text.toLowerCase();
  };
  const ids = Object.keys(table).filter((name) => IDS.has(name));
  const names = Object.keys(table).filter((name) => !IDS.has(name));

  class Row {
    #text;
    #ids;

    constructor(at) {
      this.at = at;
    }

    // Whether it has a word, which is in lower case; in its UUIDs only if the word is long.
    has(word) {
      this.#text ??= searched(this, names);
      if (this.#text.includes(word)) return true;
      if (word.length < LONG) return false;
      this.#ids ??= searched(this, ids);
      return this.#ids.includes(word);
    }
  }
  let count = 0;
  for (const [name, column] of Object.entries(table)) {
    const coded = !Array.isArray(column);
    count = coded ? column.at.length : column.length;
    const get = coded
      ? function () {
          return column.of[column.at[this.at]];
        }
      : function () {
          return column[this.at];
        };
    Object.defineProperty(Row.prototype, name, { get });
  }
  return Array.from({ length: count }, (_nothing, at) => new Row(at));
}

const FLEET = JSON.parse(byId("data").textContent);
const HOSTS = rows(FLEET.tables.hosts);
const CENTERS = rows(FLEET.tables.model_centers);
const VMS = rows(FLEET.tables.vms);
const MOUNTS = rows(FLEET.tables.mounts);
const STRAYS = rows(FLEET.tables.strays);

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
