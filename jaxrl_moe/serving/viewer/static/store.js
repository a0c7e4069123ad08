// What the page shows stands in its address, so that it can be kept, sent and gone back to.

const NUMBERS = ["run", "phase", "step", "sequence", "sample"];
const DEFAULTS = {
  view: "curves", run: 0, phase: 0, step: null, kind: null, sequence: null, sample: null, colour: "advantage",
  outcome: "", least: "", most: "", text: "", names: null, smooth: "0", alone: "", pane: "steps"
};
const listeners = [];

export const state = {...DEFAULTS};
// Of the server: {runs: [{name, path, phases: [...]}]}; null until it has answered.
export const server = {runs: null, gone: false};

export function read() {
  Object.assign(state, DEFAULTS);
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) {
    if (!(key in DEFAULTS)) continue;
    if (NUMBERS.includes(key)) state[key] = /^\d{1,15}$/.test(value) ? Number(value) : DEFAULTS[key];
    else state[key] = key === "names" ? value.split(",").filter(Boolean) : value;
  }
}

// Changes what is shown. A step back in the browser's history undoes it, unless `quiet`.
export function go(changes, quiet = false) {
  Object.assign(state, changes);
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (value !== DEFAULTS[key] && value !== null) query.set(key, Array.isArray(value) ? value.join(",") : value);
  }
  history[quiet ? "replaceState" : "pushState"](null, "", `#${query}`);
  tell();
}

export function listen(listener) {
  listeners.push(listener);
}

export function tell() {
  for (const listener of listeners) listener();
}

export function phaseOf(run) {
  return server.runs?.[run]?.phases[state.phase];
}

// Runs in the order in which they are shown: the chosen one first; the other too, unless it is left out.
export function shownRuns() {
  const runs = server.runs ? server.runs.map((_, number) => number) : [];
  const chosen = Math.min(state.run, runs.length - 1);
  return state.alone || runs.length < 2 ? [chosen] : [chosen, 1 - chosen];
}

export class Changed extends Error {}

export async function ask(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const each of [value].flat()) if (each !== "" && each !== null && each !== undefined) parameters.append(key, each);
  }
  const answer = await fetch(`/api/${path}?${parameters}`);
  const body = await answer.json();
  if (answer.status === 409) throw new Changed(body.error.message);
  if (!answer.ok) throw new Error(body.error?.message ?? `The server answered ${answer.status}.`);
  return body;
}
