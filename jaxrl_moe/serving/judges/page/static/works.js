// What is judged. All of it was written by a model: text goes in as text nodes, a page into a frame that can do
// nothing, a picture as data.
import {bytes, fill, h, plural, visible} from "./dom.js";

const MOST = 50_000;   // characters of a text that are shown at once
const JUST_NOW = 500;  // milliseconds

export function showTask(task) {
  return task && h("section", {class: "task", "aria-label": "Task"}, h("h2", {}, "Task"), showText(task));
}

// A work under its title; `tools` stand beside it.
export function showWork(work, title, ...tools) {
  const written = work.turns.length > 1 || work.turns.length === 1 && work.parts[0]?.content !== work.turns[0];
  return h("article", {class: "work", "aria-label": title},
           h("header", {}, h("h2", {}, title), tools),
           work.parts.map(showPart),
           written && showTurns(work.turns));
}

function showPart(part) {
  if (part.kind === "html") return showPage(part);
  if (part.kind === "png") return h("img", {class: "picture", alt: "The picture that was made", src: `data:image/png;base64,${part.content}`});
  if (part.kind === "broken") return h("p", {class: "broken"}, part.content);
  return showText(part.content);
}

function showPage(part) {
  const frame = h("iframe", {sandbox: "", referrerpolicy: "no-referrer", title: "The page that was made", src: part.frame});
  const source = h("div", {hidden: true});
  const choose = wanted => {
    frame.hidden = wanted === "source";
    source.hidden = !frame.hidden;
    if (!source.hidden && !source.firstChild) fill(source, showText(part.content));
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === wanted));
  };
  const buttons = [["page", "Page"], ["source", "Source"]].map(([value, label]) =>
    h("button", {value, "aria-pressed": String(value === "page"), onclick: () => choose(value)}, label));
  return h("div", {class: "made"}, h("div", {class: "segments", role: "group", "aria-label": "Shown as"}, buttons), frame, source);
}

function showText(text) {
  const element = h("pre", {class: "text", dir: "auto"}, visible(text.slice(0, MOST), false));
  if (text.length <= MOST) return element;
  const more = h("button", {class: "plain", onclick: () => { fill(element, visible(text, false)); more.remove(); }},
                 `Show all of it (${bytes(text.length)})`);
  return h("div", {}, element, more);
}

function showTurns(turns) {
  return h("details", {class: "turns"}, h("summary", {}, turns.length > 1 ? `What was written, in ${plural(turns.length, "turn")}` : "What was written"),
           turns.map((text, number) => [turns.length > 1 && h("h3", {}, `Turn ${number + 1}`), showText(text)]));
}

// A click into a frame leaves the keys there; the page takes them back, unless somebody went in by the Tab key,
// to read.
export function keepKeys() {
  let tabbed = 0;
  addEventListener("keydown", event => { if (event.key === "Tab") tabbed = Date.now(); }, {capture: true});
  addEventListener("blur", () => setTimeout(() => {
    if (document.activeElement?.tagName !== "IFRAME" || Date.now() - tabbed < JUST_NOW) return;
    document.activeElement.blur();
    document.getElementById("main").focus({preventScroll: true});
  }));
}
