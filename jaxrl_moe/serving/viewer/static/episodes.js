// Steps, the groups of a step, and the episodes of a group, of one run or of two side by side.
import {fill, h, LongList, number, plural, visible} from "./dom.js";
import {legend, MODES} from "./colours.js";
import {badge, drawEpisode, isFailure, scaleOf, watchTokens} from "./episode.js";
import {ask, Changed, go, phaseOf, server, shownRuns, state} from "./store.js";

const KINDS = ["train", "dropped", "eval", "greedy"];
const PANES = ["steps", "groups", "episode"];
const LIKE_FILTER = ["outcome", "least", "most"];

const order = (a, b) => a.step - b.step || KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || (a.kind < b.kind ? -1 : 1);

export class EpisodesView {
  constructor() {
    this.asked = {};
    this.steps = [];
    this.groups = [];
    this.found = null;
    this.step = this.group = this.sample = null;
    this.stepList = new LongList("Steps", 36, item => this.stepRow(item));
    this.groupList = new LongList("Groups of the step", 78, item => this.groupRow(item));
    this.groupHead = h("div", {class: "pane-head"});
    this.samples = h("div", {class: "samples"});
    this.columns = h("div", {class: "columns"});
    this.tools = this.makeTools();
    watchTokens(this.columns);
    this.element = h("div", {class: "episodes-view"}, this.tools,
      h("section", {class: "pane steps", "aria-label": "Steps"}, h("div", {class: "pane-head"}, h("h2", {}, "Steps"),
        h("button", {class: "link", title: "key .", onclick: () => this.follow()}, "newest")), this.stepList.element),
      h("section", {class: "pane groups", "aria-label": "Groups"}, this.groupHead, this.groupList.element),
      h("section", {class: "pane one", "aria-label": "Episode"}, this.samples, this.columns));
  }

  makeTools() {
    const later = (key, element) => {
      let timer = 0;
      element.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => go({[key]: element.value}, true), 250);
      });
      return element;
    };
    this.outcome = h("select", {"aria-label": "Outcome", onchange: () => go({outcome: this.outcome.value}, true)});
    this.least = later("least", h("input", {type: "number", step: "any", placeholder: "min", "aria-label": "Least reward"}));
    this.most = later("most", h("input", {type: "number", step: "any", placeholder: "max", "aria-label": "Greatest reward"}));
    this.text = later("text", h("input", {type: "search", placeholder: "Search in the step", "aria-label": "Search in the step"}));
    this.modes = h("div", {class: "segments", role: "group", "aria-label": "Colour of tokens"});
    this.legend = h("div", {class: "legend-place"});
    this.panes = h("div", {class: "segments panes", role: "group", "aria-label": "What is shown"});
    const range = h("span", {class: "range"}, h("span", {class: "label"}, "Reward"), this.least, "–", this.most);
    return h("div", {class: "toolbar"}, this.panes, h("div", {class: "filters"}, this.outcome, range, this.text),
             h("div", {class: "colours"}, this.modes, this.legend));
  }

  async update() {
    this.drawTools();
    try {
      await this.load();
    } catch (error) {
      this.asked = {};
      if (error instanceof Changed) return setTimeout(() => this.update(), 300);
      fill(this.columns, h("p", {class: "hint"}, error.message));
    }
  }

  filter() {
    return Object.fromEntries(LIKE_FILTER.map(key => [key, state[key]]));
  }

  filtered() {
    return LIKE_FILTER.some(key => state[key] !== "") || this.found !== null;
  }

  // Asks again only where the question, or what the server has by now, differs.
  async once(name, question, fetch) {
    const key = JSON.stringify(question);
    if (this.asked[name] === key) return true;
    this.asked[name] = key;
    await fetch();
    return this.asked[name] === key;
  }

  async load() {
    const runs = shownRuns();
    const phases = runs.map(phaseOf);
    const fresh = phases.map(phase => [phase.version, phase.rows]);
    if (!await this.once("steps", [runs, state.phase, fresh, this.filter()], () => this.loadSteps(runs))) return;
    this.chooseStep();
    this.stepList.set(this.steps);
    if (!this.step) return this.nothing(phases);
    const counts = this.step.runs.map(each => each && [each.rows, each.version]);
    const place = [runs, state.phase, this.step.step, this.step.kind];
    if (!await this.once("search", [place, counts, state.text], () => this.search(runs))) return;
    if (!await this.once("groups", [place, counts, this.filter(), state.text], () => this.loadGroups(runs, 0))) return;
    this.chooseGroup();
    this.drawGroups();
    if (!await this.once("others", [place, counts, this.group?.sequence, this.filter()], () => this.loadOther(runs))) return;
    const rows = this.rows(runs);
    if (!await this.once("rows", [place, rows], () => this.loadRows(runs, rows))) return;
    this.drawEpisodes(runs, rows);
  }

  nothing(phases) {
    this.groups = [];
    this.groupList.set([]);
    fill(this.groupHead, h("h2", {}, "Groups"));
    fill(this.samples);
    const [phase] = phases;
    fill(this.columns, h("p", {class: "hint"}, phase.size > phase.bytes && phase.size > 2 ** 22 ? "The file is being read."
      : "Nothing has been drawn yet. What the run draws appears here by itself."));
  }

  async loadSteps(runs) {
    const answers = await Promise.all(runs.map(run => ask(`${run}/${state.phase}/steps`, this.filter())));
    const all = new Map();
    answers.forEach((answer, at) => {
      for (const {step, phase, ...rest} of answer.steps) {
        const key = `${step} ${phase}`;
        if (!all.has(key)) all.set(key, {step, kind: phase, runs: runs.map(() => null)});
        all.get(key).runs[at] = {...rest, version: answer.version};
      }
    });
    this.steps = [...all.values()].sort(order);
    const rewards = this.steps.flatMap(each => each.runs).filter(Boolean).map(each => each.reward).filter(value => value !== null);
    this.range = [rewards.reduce((a, b) => Math.min(a, b), 0), rewards.reduce((a, b) => Math.max(a, b), 0)];
  }

  // The step that the address names; else the one that is shown, so that nothing moves under who reads; else
  // the newest.
  chooseStep() {
    const before = this.step;
    const wanted = state.step ?? before?.step;
    const kind = state.step === null ? before?.kind : state.kind;
    const here = this.steps.filter(each => each.step === wanted);
    const own = here.find(each => each.kind === kind) ?? here.find(each => each.kind === "train") ?? here[0];
    this.step = own ?? (state.step === null ? this.newest() : this.steps.findLast(each => each.step <= wanted)) ?? this.steps[0] ?? null;
    if (this.step && (before?.step !== this.step.step || before?.kind !== this.step.kind)) {
      setTimeout(() => this.stepList.show(this.steps.indexOf(this.step)));
    }
  }

  // The last step that was trained on.
  newest() {
    return this.steps.findLast(each => each.kind === "train" && each.runs[0]) ?? this.steps.at(-1);
  }

  follow() {
    const newest = this.newest();
    if (newest) go({step: newest.step, kind: newest.kind, sequence: null, sample: null});
  }

  stepRow(item) {
    const current = this.step && item.step === this.step.step && item.kind === this.step.kind;
    return h("button", {class: "row step", "data-key": `${item.step} ${item.kind}`, "aria-current": current ? "true" : null,
                        onclick: () => go({step: item.step, kind: item.kind, sequence: null, sample: null, pane: "groups"})},
      h("span", {class: "step-number"}, item.step),
      h("span", {class: "kind"}, item.kind === "train" ? "" : item.kind),
      h("span", {class: "means"}, item.runs.map((each, at) => this.mean(each, shownRuns()[at]))));
  }

  mean(each, run) {
    if (!each) return h("span", {class: "mean"});
    const [low, high] = this.range;
    const bar = h("span", {class: `bar run-${run}`});
    bar.style.width = `${each.reward === null || high === low ? 0 : Math.max(0, 100 * (each.reward - low) / (high - low))}%`;
    const some = each.wanted < each.rows;
    return h("span", {class: "mean", title: `mean reward ${number(each.reward)} of ${plural(each.wanted, "episode")}`},
      h("span", {class: "track"}, bar),
      h("span", {class: "mean-value"}, some ? `${each.wanted}/${each.rows}` : number(each.reward, 3)),
      each.broken > 0 && h("span", {class: "warn", title: plural(each.broken, "broken row")}, "!"));
  }

  async search(runs) {
    this.found = null;
    if (!state.text) return;
    const {step, kind} = this.step;
    const answers = await Promise.all(runs.map(run => ask(`${run}/${state.phase}/search`, {step, phase: kind, text: state.text})));
    this.found = answers.map(answer => new Set(answer.rows));
  }

  async loadGroups(runs, start) {
    const {step, kind} = this.step;
    const answers = await Promise.all(runs.map((run, at) => this.step.runs[at]
      ? ask(`${run}/${state.phase}/groups`, {step, phase: kind, start, ...this.filter()})
      : {groups: [], total: 0, version: 0}));
    const groups = start ? this.answers.map((answer, at) => [...answer.groups, ...answers[at].groups]) : answers.map(answer => answer.groups);
    this.answers = answers.map((answer, at) => ({...answer, groups: groups[at]}));
  }

  drawGroups() {
    const [answer] = this.answers;
    const lead = this.leads() ? answer : this.answers.at(-1);
    const wanted = lead.groups.filter(group => !this.filtered() || group.rows.some((_, at) => this.isWanted(group, at, this.lead())));
    this.groups = wanted;
    const rewards = this.answers.flatMap(each => each.groups).flatMap(group => group.rewards).filter(Number.isFinite);
    this.rewards = [rewards.reduce((a, b) => Math.min(a, b), Infinity), rewards.reduce((a, b) => Math.max(a, b), -Infinity)];
    this.groupList.height = this.answers.length > 1 ? 98 : 78;
    this.groupList.set(lead.groups.length < lead.total ? [...wanted, "more"] : wanted);
    fill(this.groupHead, h("h2", {}, `Step ${this.step.step}`), this.step.kind !== "train" && h("span", {class: "kind"}, this.step.kind),
         h("span", {class: "size"}, this.filtered() ? `${wanted.length} of ${plural(lead.total, "group")}` : plural(lead.total, "group")));
  }

  // Whether the first run has the step; else the other's groups are listed.
  leads() {
    return Boolean(this.step.runs[0]) || this.answers.length < 2;
  }

  lead() {
    return this.leads() ? 0 : 1;
  }

  isWanted(group, at, side) {
    return group.wanted[at] && (this.found === null || this.found[side].has(group.rows[at]));
  }

  groupRow(group) {
    if (group === "more") {
      return h("div", {class: "row"}, h("button", {class: "plain", onclick: () => this.more()}, "Show more groups"));
    }
    const current = this.group && group.sequence === this.group.sequence;
    const others = this.lead() === 0 ? this.answers.slice(1) : [];
    return h("button", {class: "row group", "data-key": group.sequence, "aria-current": current ? "true" : null,
                        onclick: () => go({step: this.step.step, kind: this.step.kind, sequence: group.sequence, sample: null, pane: "episode"})},
      h("span", {class: "excerpt"}, group.prompt.trim() ? visible(group.prompt.trim().replace(/\s+/g, " "), false)
        : group.outcomes.every(outcome => outcome === "broken") ? "broken rows" : "–"),
      this.dots(group, this.lead()),
      others.map((answer, at) => this.dots(answer.groups.find(each => each.prompt_index === group.prompt_index), at + 1)));
  }

  dots(group, side) {
    const run = shownRuns()[side];
    return h("span", {class: `dots run-${run}`}, this.answers.length > 1 && h("span", {class: `own run-${run}`}, "●"),
      group?.rows.map((_, at) => h("span", {class: `reward-dot ${this.fill(group, at)} ${this.isWanted(group, at, side) ? "" : "unwanted"}`,
        title: `sample ${group.samples[at]}: ${group.outcomes[at]}, reward ${number(group.rewards[at])}`})));
  }

  fill(group, at) {
    if (isFailure(group.outcomes[at])) return "failed";
    const [low, high] = this.rewards;
    const share = high > low ? (group.rewards[at] - low) / (high - low) : 0;
    return `full-${Math.round(4 * share)}${group.outcomes[at] === "truncated" ? " cut" : ""}`;
  }

  async more() {
    await this.loadGroups(shownRuns(), this.answers[this.lead()].groups.length);
    this.drawGroups();
  }

  chooseGroup() {
    const {groups} = this.answers[this.lead()];
    const wanted = groups.filter(group => group.rows.some((_, at) => this.isWanted(group, at, this.lead())));
    this.group = groups.find(group => group.sequence === state.sequence) ?? wanted[0] ?? null;
  }

  // The group of the same prompt in the other run, which may be far down its list.
  async loadOther(runs) {
    this.pairs = this.answers.map((answer, side) => {
      if (!this.group || side === this.lead()) return this.group;
      return answer.groups.find(each => each.prompt_index === this.group.prompt_index) ?? null;
    });
    const lacking = this.pairs.findIndex((group, side) => !group && this.step.runs[side]);
    if (!this.group || lacking < 0 || this.group.prompt_index < 0) return;
    const answer = await ask(`${runs[lacking]}/${state.phase}/groups`,
                             {step: this.step.step, phase: this.step.kind, prompt_index: this.group.prompt_index, ...this.filter()});
    this.pairs[lacking] = answer.groups[0] ?? null;
  }

  // The number within each run's group of the episode that is shown.
  rows(runs) {
    const group = this.group;
    if (!group) return runs.map(() => null);
    const side = this.lead();
    const chosen = group.samples.indexOf(state.sample);
    const first = group.rows.findIndex((_, at) => this.isWanted(group, at, side));
    const sample = group.samples[chosen >= 0 ? chosen : Math.max(0, first)];
    this.sample = sample;
    return this.pairs.map(pair => pair && (pair.rows[pair.samples.indexOf(sample)] ?? null));
  }

  async loadRows(runs, rows) {
    this.episodes = await Promise.all(rows.map((row, side) => row === null ? null
      : ask(`${runs[side]}/${state.phase}/row`, {row, version: this.step.runs[side].version})));
  }

  drawEpisodes(runs, rows) {
    const mode = state.colour in MODES ? state.colour : "advantage";
    const group = this.group;
    const scales = this.pairs.flatMap(pair => pair?.advantages ?? []).filter(Number.isFinite).map(Math.abs);
    const scale = this.episodes.filter(Boolean).map(scaleOf).concat(scales).reduce((a, b) => Math.max(a, b), 0);
    fill(this.legend, legend(mode, scale));
    fill(this.samples, group && group.samples.map((sample, at) => this.sampleButton(group, sample, at)));
    const key = JSON.stringify([runs, rows, state.phase, mode, scale, this.asked.rows]);
    if (key === this.drawn) return;
    const same = this.drawnRows === this.asked.rows;
    const tops = [...this.columns.children].map(column => column.scrollTop);
    this.drawn = key;
    this.drawnRows = this.asked.rows;
    this.columns.classList.toggle("two", runs.length > 1);
    if (!group) return fill(this.columns, h("p", {class: "hint"}, this.filtered() ? "No episode of this step fits." : "This step has no episodes."));
    fill(this.columns, this.episodes.map((episode, side) => h("div", {class: "column"},
      runs.length > 1 && h("h3", {class: `own run-${runs[side]}`}, h("span", {class: "dot"}), server.runs[runs[side]].name),
      this.differs(side), this.lacks(mode, episode),
      episode ? drawEpisode(episode, mode, scale) : h("p", {class: "hint"}, this.absent(side)))));
    if (same) [...this.columns.children].forEach((column, at) => (column.scrollTop = tops[at] ?? 0));
  }

  sampleButton(group, sample, at) {
    const wanted = this.isWanted(group, at, this.lead());
    return h("button", {class: `sample ${wanted ? "" : "unwanted"}`, "aria-pressed": String(sample === this.sample),
                        title: group.outcomes[at].replaceAll("_", " "), onclick: () => this.goTo(sample)},
      h("span", {class: `reward-dot ${this.fill(group, at)}`}), h("span", {class: "sample-number"}, sample),
      h("span", {class: "sample-reward"}, number(group.rewards[at], 3)));
  }

  goTo(sample) {
    go({step: this.step.step, kind: this.step.kind, sequence: this.group.sequence, sample});
  }

  lacks(mode, episode) {
    const has = !episode?.traces || episode.traces.some(trace => MODES[mode].has(trace.completion));
    return !has && h("p", {class: "aside"}, mode === "mismatch" ? "This row does not say what the trainer's weights gave its tokens, so there is no mismatch to show."
      : mode === "advantage" ? "This row was not trained on, so it has no advantages." : `This row says nothing of its tokens' ${MODES[mode].label.toLowerCase()}.`);
  }

  // Rows of the same number in different data files hold different prompts.
  differs(side) {
    const [one, other] = this.episodes;
    const differ = side !== this.lead() && one && other && one.prompt !== other.prompt;
    return differ && h("p", {class: "aside"}, "Both are row ", h("b", {}, this.group.prompt_index), " of their data, but the prompts differ.");
  }

  absent(side) {
    if (!this.step.runs[side]) return `This run has no step ${this.step.step} of this kind.`;
    return this.pairs[side] ? `This run has no sample ${this.sample} of the prompt.` : `This run did not draw this prompt in step ${this.step.step}.`;
  }

  drawTools() {
    const outcomes = [...new Set(shownRuns().flatMap(run => phaseOf(run).outcomes))].sort();
    const options = ["", ...new Set([...outcomes, state.outcome].filter(Boolean))];
    if (JSON.stringify(options) !== this.options) {
      this.options = JSON.stringify(options);
      fill(this.outcome, options.map(outcome => h("option", {value: outcome}, outcome ? outcome.replaceAll("_", " ") : "Any outcome")));
    }
    this.outcome.value = state.outcome;
    for (const key of ["least", "most", "text"]) {
      if (document.activeElement !== this[key]) this[key].value = state[key];
    }
    fill(this.modes, Object.entries(MODES).map(([mode, {label, key}]) =>
      h("button", {"aria-pressed": String(state.colour === mode), title: `key ${key}`, onclick: () => go({colour: mode}, true)}, label)));
    fill(this.panes, PANES.map(pane => h("button", {"aria-pressed": String(state.pane === pane), onclick: () => go({pane}, true)},
                                         pane[0].toUpperCase() + pane.slice(1))));
    this.element.dataset.pane = state.pane;
    this.element.classList.toggle("two", shownRuns().length > 1);
  }

  pressed(event) {
    const mode = Object.keys(MODES).find(name => MODES[name].key === event.key);
    if (mode) go({colour: mode}, true);
    else if (event.key === "/") this.text.focus();
    else if (event.key === ".") this.follow();
    else if (event.key === "[" || event.key === "]") this.move(this.steps, this.step, event.key === "]" ? 1 : -1,
      ({step, kind}) => go({step, kind, sequence: null, sample: null}));
    else if (event.key === "n" || event.key === "p") this.move(this.groups, this.groups.find(each => each.sequence === this.group?.sequence),
      event.key === "n" ? 1 : -1, group => {
        go({step: this.step.step, kind: this.step.kind, sequence: group.sequence, sample: null});
        this.groupList.show(this.groups.indexOf(group));
      });
    else if (event.key === "j" || event.key === "k") this.move(this.group?.samples ?? [], this.sample, event.key === "j" ? 1 : -1, sample => this.goTo(sample));
    else return false;
    return true;
  }

  move(items, item, by, then) {
    const next = items[items.indexOf(item) + by];
    if (next !== undefined && items.includes(item)) then(next);
  }
}
