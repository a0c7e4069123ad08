// Elements and numbers. Whatever a model or an environment wrote goes in as text nodes.

// An element with its attributes, listeners ("on..." functions) and children: nodes, or anything else as text.
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  fill(element, ...children);
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false)
    .map(child => child instanceof Node ? child : document.createTextNode(String(child))));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A number of about four digits, with a real minus sign.
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value).replace("-", "−");
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(digits)));
  return text.replaceAll("-", "−");
}

export function bytes(count) {
  for (const unit of ["bytes", "KB", "MB", "GB"]) {
    if (count < 1000 || unit === "GB") return `${Number(count.toPrecision(3))} ${unit}`;
    count /= 1000;
  }
}

export function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}

const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

// The nodes of a text in which line breaks are marked, and characters that are not seen, or that turn the
// order of others round, stand as escapes.
export function visible(text, marks = true) {
  const nodes = [];
  const lines = text.split("\n");
  lines.forEach((line, number) => {
    let at = 0;
    for (const found of line.matchAll(UNSEEN)) {
      if (found.index > at) nodes.push(document.createTextNode(line.slice(at, found.index)));
      const code = found[0].codePointAt(0).toString(16).padStart(2, "0");
      nodes.push(h("span", {class: "escape"}, code.length > 2 ? `\\u${code.padStart(4, "0")}` : `\\x${code}`));
      at = found.index + found[0].length;
    }
    if (at < line.length) nodes.push(document.createTextNode(line.slice(at)));
    if (number < lines.length - 1) {
      if (marks) nodes.push(h("span", {class: "return", "aria-hidden": "true"}, "↵"));
      nodes.push(document.createTextNode("\n"));
    }
  });
  return nodes;
}

// A list of thousands of rows of one height, of which only those in sight are in the page.
export class LongList {
  constructor(label, height, draw) {
    this.height = height;
    this.draw = draw;
    this.items = [];
    this.inner = h("div", {class: "long-inner"});
    this.element = h("div", {class: "long", role: "list", "aria-label": label}, this.inner);
    this.element.addEventListener("scroll", () => this.paint());
    new ResizeObserver(() => this.paint()).observe(this.element);
  }

  set(items) {
    this.items = items;
    this.inner.style.height = `${items.length * this.height}px`;
    this.paint();
  }

  paint() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - 5);
    const last = Math.min(this.items.length, first + Math.ceil(this.element.clientHeight / this.height) + 10);
    const focused = document.activeElement?.dataset?.key;
    this.inner.replaceChildren(...this.items.slice(first, last).map((item, offset) => {
      const row = this.draw(item);
      row.style.transform = `translateY(${(first + offset) * this.height}px)`;
      row.setAttribute("role", "listitem");
      return row;
    }));
    if (focused) this.inner.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({preventScroll: true});
  }

  show(at) {
    const top = at * this.height;
    const {scrollTop, clientHeight} = this.element;
    if (top < scrollTop || top + this.height > scrollTop + clientHeight) {
      this.element.scrollTop = Math.max(0, top - clientHeight / 2);
    }
    this.paint();
  }
}
