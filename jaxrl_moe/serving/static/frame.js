// What every page has around its views: light or dark, and the list of its keys.
import {h} from "./dom.js";

const THEMES = ["", "light", "dark"];

// Goes on to the next of light, dark, as the system has it.
export function turn() {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % THEMES.length];
  dress(next);
  try {
    localStorage.setItem("theme", next);
  } catch {}  // a browser that keeps nothing: the choice lasts as long as the page
}

// Dresses the page as it was left.
export function dressAsBefore() {
  try {
    dress(localStorage.getItem("theme"));
  } catch {}
}

function dress(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

// A dialog of rows [keys, what they do], keys apart by blanks, "–" between the ends of a row of keys.
export function listOfKeys(rows) {
  const list = h("dl", {}, rows.map(([keys, what]) => [
    h("dt", {}, keys.split(" ").filter(Boolean).map(key => key === "–" ? key : h("kbd", {}, key))), h("dd", {}, what)]));
  const dialog = h("dialog", {class: "help", "aria-label": "Keys", onclick: event => event.target === dialog && dialog.close()},
                   h("h2", {}, "Keys"), list, h("form", {method: "dialog"}, h("button", {class: "plain"}, "Close")));
  document.body.append(dialog);
  return dialog;
}
