// Ranking a group, best first: works are put behind one another, or level with the last.
import {fill, h} from "./dom.js";

export class RankingForm {
  constructor(lease, changed) {
    this.changed = changed;
    this.count = lease.works.length;
    this.tiers = [];
    this.level = false;
    this.tools = lease.works.map((_, work) =>
      h("button", {class: "plain place", onclick: () => this.put(work)}, "Put next"));
    this.list = h("ol", {class: "tiers", "aria-label": "The ranking, best first"});
    this.tie = h("button", {class: "plain", "aria-pressed": "false", onclick: () => this.setLevel(!this.level)}, "Level with the last", h("kbd", {"aria-hidden": "true"}, "="));
    this.element = h("div", {class: "ranking"}, this.list, h("div", {class: "marks"}, this.tie,
      h("button", {class: "plain", onclick: () => this.undo()}, "Undo", h("kbd", {"aria-hidden": "true"}, "⌫"))));
    this.draw();
  }

  draft() {
    return {tiers: this.tiers};
  }

  restore(draft) {
    const tiers = Array.isArray(draft.tiers) ? draft.tiers.filter(tier => Array.isArray(tier) && tier.length) : [];
    const works = tiers.flat();
    if (works.every(work => Number.isInteger(work) && work >= 0 && work < this.count) && new Set(works).size === works.length) this.tiers = tiers;
    this.draw();
  }

  begin() {
    document.getElementById("main").focus({preventScroll: true});
  }

  given() {
    return this.tiers.flat().length === this.count ? {order: this.tiers} : null;
  }

  missing() {
    const left = [...Array(this.count).keys()].filter(work => !this.tiers.flat().includes(work));
    return `Not ranked yet: ${left.map(work => work + 1).join(", ")}.`;
  }

  put(work) {
    if (this.tiers.flat().includes(work)) return;
    if (this.level && this.tiers.length) this.tiers.at(-1).push(work);
    else this.tiers.push([work]);
    this.setLevel(false);
    this.draw();
    this.changed();
    if (this.given()) document.querySelector(".submit").focus({preventScroll: true});
  }

  undo() {
    this.tiers.at(-1)?.pop();
    this.tiers = this.tiers.filter(tier => tier.length);
    this.setLevel(false);
    this.draw();
    this.changed();
  }

  setLevel(level) {
    this.level = level && this.tiers.length > 0;
    this.tie.setAttribute("aria-pressed", String(this.level));
  }

  draw() {
    fill(this.list, this.tiers.map(tier => h("li", {}, tier.map(work => `Work ${work + 1}`).join(" = "))));
    this.tools.forEach((button, work) => {
      const rank = this.tiers.findIndex(tier => tier.includes(work));
      button.disabled = rank >= 0;
      fill(button, rank >= 0 ? `Rank ${rank + 1}` : "Put next", rank < 0 && work < 9 && h("kbd", {"aria-hidden": "true"}, String(work + 1)));
    });
  }

  pressed(event) {
    if (/^[1-9]$/.test(event.key) && Number(event.key) <= this.count) this.put(Number(event.key) - 1);
    else if (event.key === "=") this.setLevel(!this.level);
    else if (event.key === "Backspace") this.undo();
    else return false;
    return true;
  }
}
