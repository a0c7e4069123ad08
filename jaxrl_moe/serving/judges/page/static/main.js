// The page's frame: who is logged in, the two views, the queue's length, and keys.
import {fill, h, plural} from "./dom.js";
import {call, enter, LoggedOut, once} from "./api.js";
import {dropDrafts} from "./drafts.js";
import {dressAsBefore, listOfKeys, turn} from "./frame.js";
import {JudgingView} from "./judging.js";
import {loginForm} from "./login.js";
import {ProgressView} from "./progress.js";
import {keepKeys} from "./works.js";

const EVERY = 10_000;  // milliseconds between two looks at the queue
const main = document.getElementById("main");
const said = document.getElementById("said");
const judging = new JudgingView({said: tell, lost: comeIn, moved: look});
const progress = new ProgressView(comeIn);
let session = null;
let queue = null;
let view = "judging";

const help = listOfKeys([
  ["0 – 5", "a score, of 5"], ["y n", "yes, no"], ["← →", "a little less, more; A, B is better"], ["↓ =", "a tie of two"],
  ["↑ ↓", "criterion before, after"], ["1 – 9", "puts a work next in a ranking"], ["=", "level with the last"], ["⌫", "takes the last back"],
  ["Enter", "submits"], ["s", "skip: not shown to you again"], ["p", "put off until the end"], ["u", "give back, for anybody"],
  ["c", "comment; Esc leaves it, Ctrl+Enter submits"], ["v", "judging or progress"], ["t", "light, dark, as the system has it"], ["?", "this list"]]);

function tell(text) {
  fill(said, h("p", {}, text));
}

function comeIn() {
  session = null;
  judging.end();
  draw();
}

function entered(answer) {
  session = answer;
  fill(said);
  draw();
  judging.begin(session);
}

async function leave() {
  await call("logout", {});
  dropDrafts(true);
  comeIn();
}

function show(wanted) {
  view = wanted;
  draw();
  look();
}

function draw() {
  top();
  main.className = session ? `at-${view}` : "outside";
  fill(main, !session ? loginForm(entered) : view === "judging" ? judging.element : progress.element);
  if (!session) document.getElementById("token").focus();
}

function top() {
  const tab = (name, label) => h("button", {class: "tab", "aria-current": view === name ? "page" : null, onclick: () => show(name)}, label);
  const icon = (label, text, key, act) => h("button", {class: "plain icon", title: `${label}${key}`, "aria-label": label, onclick: act}, text);
  fill(document.getElementById("top"),
       session && h("nav", {class: "tabs", "aria-label": "Views"}, tab("judging", "Judge"), tab("progress", "Progress")),
       session && h("span", {class: "queue", id: "queue"}, counted()),
       h("span", {class: "last"}, session && h("span", {class: "judge"}, session.judge),
         icon("Keys", "?", " (?)", () => help.showModal()), icon("Light or dark", "◐", " (t)", turn),
         session && h("button", {class: "plain", title: `Log ${session.judge} out`, onclick: leave}, "Log out")));
}

function counted() {
  if (!queue) return "";
  const parts = [`${queue.waiting.toLocaleString("en")} ${queue.waiting === 1 ? "waits" : "wait"}`];
  if (queue.postponed) parts.push(`${queue.postponed} put off`);
  if (queue.runs.length) parts.push(plural(queue.runs.length, "run"));
  return parts.join(" · ");
}

async function look() {
  if (!session) return;
  try {
    queue = await once("progress");
  } catch (error) {
    if (error instanceof LoggedOut) comeIn();
    return;  // not reached: whatever a judge does next says so
  }
  const shown = document.getElementById("queue");
  if (shown) fill(shown, counted());
  document.title = queue.waiting ? `(${queue.waiting}) Judging` : "Judging";
  if (view === "progress") progress.update(queue);
}

function pressed(event) {
  if (help.open || !session) return;
  const typing = event.target.closest?.("textarea, input:not([type=range])");
  if (typing && (event.ctrlKey || event.metaKey) && event.key === "Enter") judging.answer();
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (typing && event.key === "Escape") main.focus({preventScroll: true});
  else if (typing || native(event)) return;
  else if (event.key === "?") help.showModal();
  else if (event.key === "t") turn();
  else if (event.key === "v") show(view === "judging" ? "progress" : "judging");
  else if (view !== "judging" || !judging.pressed(event)) return;
  event.preventDefault();
}

// Keys that the element which has the focus understands by itself.
function native(event) {
  const {target, key} = event;
  if (target.closest?.("button, summary, a")) return key === "Enter" || key === " ";
  return target.matches?.("input[type=range]") && (key === "ArrowLeft" || key === "ArrowRight");
}

dressAsBefore();
keepKeys();
addEventListener("keydown", pressed);
setInterval(() => { if (!document.hidden) look(); }, EVERY);
enter().then(entered, error => {
  if (!(error instanceof LoggedOut)) throw error;
  comeIn();
});
