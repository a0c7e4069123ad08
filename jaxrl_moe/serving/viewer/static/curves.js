// The curves: which metrics there are, and a chart for each that is chosen.
import {fill, h, plural} from "./dom.js";
import {Chart} from "./chart.js";
import {ask, go, phaseOf, server, shownRuns, state} from "./store.js";

const MOST = 48;  // charts at once
const FIRST = [/^reward\/mean$/, /^eval\/(pass_at_1|greedy|reward_mean)$/, /^(policy\/|sft\/)?(loss|nll)$/, /^policy\/entropy$/,
               /^policy\/grad_norm$/, /^mismatch\/kl$/, /^completion\/length_mean$/, /^rollout\/turns_mean$/,
               /^completion\/truncated_frac$/, /^moe\/max_vio$/];

export class CurvesView {
  constructor() {
    this.charts = new Map();
    this.names = [];
    this.asked = "";
    this.open = new Set();
    this.filter = h("input", {type: "search", placeholder: "Find a metric", "aria-label": "Find a metric", oninput: () => this.list()});
    this.choices = h("div", {class: "choices"});
    this.smooth = h("select", {"aria-label": "Smoothing", onchange: () => go({smooth: this.smooth.value}, true)},
      [["0", "As logged"], ["0.6", "Smoothed a little"], ["0.9", "Smoothed"], ["0.98", "Smoothed a lot"]].map(
        ([value, label]) => h("option", {value}, label)));
    this.grid = h("div", {class: "grid-of-charts"});
    this.hint = h("p", {class: "hint"});
    this.element = h("div", {class: "curves-view"},
                     h("aside", {class: "metrics", "aria-label": "Metrics"}, h("div", {class: "tools"}, this.filter, this.smooth), this.choices),
                     h("div", {class: "charts"}, this.hint, this.grid));
  }

  chosen() {
    if (state.names) return state.names;
    const first = FIRST.map(pattern => this.names.find(name => pattern.test(name))).filter(Boolean);
    return first.length ? first : this.names.slice(0, 6);
  }

  async update() {
    this.smooth.value = state.smooth;
    const question = JSON.stringify([shownRuns(), state.phase, state.names, state.smooth,
                                     server.runs.map((_, run) => phaseOf(run).metrics)]);
    if (question === this.asked) return;
    this.asked = question;
    try {
      await this.fetch(question);
    } catch (error) {
      this.asked = "";
      fill(this.hint, error.message);
    }
  }

  async fetch(question) {
    const runs = shownRuns();
    if (!this.names.length || !state.names) {
      const answers = await Promise.all(runs.map(run => ask(`${run}/${state.phase}/curves`)));
      this.names = [...new Set(answers.flatMap(answer => answer.names))].sort();
    }
    const chosen = this.chosen().slice(0, MOST);
    const answers = await Promise.all(runs.map(run => ask(`${run}/${state.phase}/curves`, {name: chosen})));
    if (question !== this.asked) return;
    this.names = [...new Set(answers.flatMap(answer => answer.names))].sort();
    this.draw(chosen, runs, answers.map(answer => answer.curves));
    this.list();
  }

  draw(chosen, runs, curves) {
    const steps = curves.flatMap(each => Object.values(each)).flatMap(([all]) => [all[0], all.at(-1)]);
    const span = [Math.min(...steps), Math.max(...steps)];
    for (const name of this.charts.keys()) if (!chosen.includes(name)) this.charts.delete(name);
    for (const name of chosen) {
      if (!this.charts.has(name)) {
        this.charts.set(name, new Chart(name, step => this.hover(step),
                                        step => step !== null && go({view: "episodes", step, kind: null, sequence: null, sample: null, pane: "groups"})));
      }
      const lines = runs.map((run, at) => ({run, curve: curves[at][name]})).filter(({curve}) => curve)
        .map(({run, curve: [all, values]}) => ({run, steps: all, values}));
      this.charts.get(name).set(lines, Number(state.smooth) || 0, span);
    }
    const elements = chosen.map(name => this.charts.get(name).element);
    if (elements.length !== this.grid.children.length || elements.some((element, at) => this.grid.children[at] !== element)) {
      fill(this.grid, elements);
    }
    const none = !this.names.length ? "No metrics have been logged yet." : !chosen.length ? "No metric is chosen." : "";
    fill(this.hint, none);
  }

  hover(step) {
    for (const chart of this.charts.values()) chart.mark(step);
  }

  list() {
    const wanted = this.filter.value.toLowerCase();
    const chosen = this.chosen();
    const groups = new Map();
    for (const name of this.names.filter(name => name.toLowerCase().includes(wanted))) {
      const group = name.includes("/") ? name.slice(0, name.indexOf("/")) : "other";
      groups.set(group, [...groups.get(group) ?? [], name]);
    }
    fill(this.choices, [...groups].map(([group, names]) => this.group(group, names, chosen, wanted !== "")),
         !groups.size && h("p", {class: "hint"}, wanted ? "No metric has that in its name." : "None yet."));
  }

  group(group, names, chosen, open) {
    const count = names.filter(name => chosen.includes(name)).length;
    const details = h("details", {open: open || count > 0 && !this.open.has(`-${group}`) || this.open.has(group)},
      h("summary", {}, h("span", {}, group), h("span", {class: "count"}, count ? `${count} of ${names.length}` : String(names.length))),
      names.map(name => h("label", {},
        h("input", {type: "checkbox", checked: chosen.includes(name), onchange: event => this.choose(name, event.target.checked)}),
        h("span", {}, name.slice(name.indexOf("/") + 1)))));
    details.addEventListener("toggle", () => {
      this.open.delete(details.open ? `-${group}` : group);
      this.open.add(details.open ? group : `-${group}`);
    });
    return details;
  }

  choose(name, wanted) {
    const chosen = this.chosen().filter(other => other !== name);
    const names = wanted ? [...chosen, name] : chosen;
    if (names.length > MOST) {
      fill(this.hint, `${plural(MOST, "chart")} are shown at most; leave one out first.`);
      return this.list();
    }
    go({names}, true);
  }

  pressed(event) {
    if (event.key !== "/") return false;
    this.filter.focus();
    return true;
  }
}
