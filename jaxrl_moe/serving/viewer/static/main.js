// The page's frame: what is chosen at its top, keys, and the look at the server every moment.
import {bytes, fill, h, plural} from "./dom.js";
import {CurvesView} from "./curves.js";
import {EpisodesView} from "./episodes.js";
import {dressAsBefore, listOfKeys, turn} from "./frame.js";
import {ask, go, listen, phaseOf, read, server, shownRuns, state, tell} from "./store.js";

const EVERY = 1500;  // milliseconds between two looks at the server
const views = {curves: new CurvesView(), episodes: new EpisodesView()};
const main = document.getElementById("main");
let shown = null;

const KEYS = [
  ["1  2", "curves, episodes"], ["[  ]", "step before, after"], [".", "newest step"], ["n  p", "next, previous prompt"],
  ["j  k", "next, previous sample"], ["a l m x", "colour by advantage, log-prob, mismatch, mask"],
  ["/", "search in the step"], ["← →", "in an episode: token before, after"], ["b", "swap or leave out the other run"],
  ["t", "light, dark, as the system has it"], ["?", "this list"]];

const help = listOfKeys(KEYS);

function tab(view, label) {
  return h("button", {class: "tab", "aria-current": state.view === view ? "page" : null,
                      onclick: () => go({view})}, label);
}

function top() {
  const runs = shownRuns();
  const phases = server.runs[runs[0]].phases;
  const present = phases.map((_, number) => number).filter(
    number => number === state.phase || server.runs.some(run => run.phases[number].version || run.phases[number].metrics[0]));
  fill(document.getElementById("top"),
       h("nav", {class: "tabs", "aria-label": "Views"}, tab("curves", "Curves"), tab("episodes", "Episodes")),
       h("div", {class: "runs"}, server.runs.map((run, number) =>
         h("button", {class: `run run-${number}`, title: run.path, "aria-pressed": String(runs.includes(number)),
                      onclick: () => choose(number)},
           h("span", {class: "dot"}), h("span", {class: "run-name"}, run.name)))),
       present.length > 1 && h("div", {class: "segments", role: "group", "aria-label": "Phase of the run"},
         present.map(number => h("button", {"aria-pressed": String(number === state.phase),
           onclick: () => go({phase: number, step: null, kind: null, sequence: null, sample: null, names: null, pane: "steps"})},
           phases[number].name))),
       h("span", {class: "reading", role: "status"}, progress()),
       h("button", {class: "plain icon", title: "Keys (?)", "aria-label": "Keys", onclick: () => help.showModal()}, "?"),
       h("button", {class: "plain icon", title: "Light or dark (t)", "aria-label": "Light or dark", onclick: turn}, "◐"));
}

// A run's button: with the other shown, it comes first; pressed when first, the other is left out.
function choose(number) {
  if (server.runs.length < 2) return;
  if (state.alone) go(number === state.run ? {alone: ""} : {run: number});
  else go(number === state.run ? {alone: "yes"} : {run: number});
}

function progress() {
  if (server.gone) return h("span", {class: "gone"}, "The viewer's server does not answer.");
  const phases = shownRuns().map(phaseOf);
  const [size, done] = ["size", "bytes"].map(key => phases.reduce((sum, phase) => sum + phase[key], 0));
  const rows = plural(phases.reduce((sum, phase) => sum + phase.rows, 0), "episode");
  // what is left at the end may be half a line that the run is writing
  if (size - done > 2 ** 22) return [rows, ` · ${Math.floor(100 * done / size)} % of ${bytes(size)} read`];
  return [rows, size ? ` · ${bytes(size)}` : ""];
}

function notices() {
  const errors = shownRuns().flatMap(run => phaseOf(run).errors.map(error => `${server.runs[run].name}: ${error}`));
  fill(document.getElementById("notices"), errors.map(error => h("p", {class: "notice"}, error)));
}

function draw() {
  if (!server.runs) return;
  if (state.run >= server.runs.length) state.run = 0;
  if (!server.runs[0].phases[state.phase]) state.phase = 0;
  if (!(state.view in views)) state.view = "curves";
  top();
  notices();
  const view = views[state.view];
  if (view !== shown) {
    shown = view;
    main.className = state.view;
    fill(main, view.element);
  }
  document.title = `${server.runs.map(run => run.name).join(" · ")} – jaxrl_moe viewer`;
  view.update();
}

function pressed(event) {
  const typing = event.target.closest?.("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || typing && event.key !== "Escape") return;
  if (typing) return event.target.blur();
  if (event.key === "?") help.showModal();
  else if (event.key === "t") turn();
  else if (event.key === "1") go({view: "curves"});
  else if (event.key === "2") go({view: "episodes"});
  else if (event.key === "b" && server.runs.length > 1) choose(state.alone ? state.run : 1 - state.run);
  else if (!views[state.view].pressed?.(event)) return;
  event.preventDefault();
}

async function look() {
  const before = JSON.stringify([server.runs, server.gone]);
  try {
    const answer = await ask("state");
    server.runs = answer.runs;
    server.gone = false;
  } catch {
    server.gone = true;
  }
  if (JSON.stringify([server.runs, server.gone]) !== before) tell();
  setTimeout(look, document.hidden ? 4 * EVERY : EVERY);
}

dressAsBefore();
read();
listen(draw);
addEventListener("hashchange", () => { read(); tell(); });
addEventListener("popstate", () => { read(); tell(); });
addEventListener("keydown", pressed);
look();
