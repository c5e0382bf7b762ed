// Elements are made here and nowhere else, and texts become text nodes: nothing of the data is ever parsed as HTML.

const byId = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null && child !== ""));
  return node;
}

function fill(node, ...children) {
  node.replaceChildren(...children.filter((child) => child != null));
}

// What would not be seen, or would change how its surroundings are seen: control characters, line ends, blanks that are
// no blank, marks without width, changes of direction, halves of characters.
const UNSEEN = /(?! )[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/gu;

const spelled = (character) => "\\u" + character.codePointAt(0).toString(16).padStart(4, "0");

// A text from the data as plain text, where there can be no elements: in attributes and options.
const plain = (text, most = 200) => {
  const shown = text.replace(UNSEEN, spelled);
  return shown.length > most ? `${shown.slice(0, most)}\u2026` : shown;
};

// A text from the data as an element of its own, which no other text can reach into.
function data(text, attributes) {
  const node = el("bdi", attributes);
  let at = 0;
  for (const found of text.matchAll(UNSEEN)) {
    node.append(text.slice(at, found.index), el("span", { class: "unseen" }, spelled(found[0])));
    at = found.index + found[0].length;
  }
  node.append(text.slice(at));
  return node;
}

const number = (count) => count.toLocaleString("en");
const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

// Lists are shown in parts, the next one when somebody comes near its end, and all that fits on paper for printing.
class Parts {
  static open = new Set();

  constructor(place, items, make, size, most, last = place) {
    Object.assign(this, { place, items, make, size, most, shown: 0 });
    this.end = el("button", { type: "button", class: "next", onclick: () => this.next() });
    last.after(this.end);
    this.watch = new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && this.next(), {
      root: last.closest(".wide"),
      rootMargin: "800px",
    });
    this.watch.observe(this.end);
    Parts.open.add(this);
    this.next();
  }

  next(size = this.size) {
    this.place.append(...this.items.slice(this.shown, this.shown + size).map(this.make));
    this.shown = Math.min(this.shown + size, this.items.length);
    const left = this.items.length - this.shown;
    this.end.textContent = `${number(left)} more`;
    this.end.hidden = !left;
    if (!left) this.watch.disconnect();
    else {
      // Observed anew, since nothing is told when the end is still near.
      this.watch.unobserve(this.end);
      this.watch.observe(this.end);
    }
  }

  all() {
    if (this.shown < this.most) this.next(this.most - this.shown);
  }

  close() {
    this.watch.disconnect();
    this.end.remove();
    Parts.open.delete(this);
  }
}
