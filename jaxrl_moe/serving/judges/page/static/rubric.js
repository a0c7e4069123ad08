// Rating a work criterion by criterion.
import {fill, h} from "./dom.js";

const MARKS = 5;      // a digit d scores d of so many
const STEP = 0.05;    // of the arrow keys

export class RubricForm {
  constructor(lease, changed) {
    this.changed = changed;
    this.scores = {};
    this.at = 0;
    this.rows = lease.rubric.criteria.map((criterion, number) => new Row(criterion, number, this));
    this.element = h("div", {class: "criteria"}, this.rows.map(row => row.element));
  }

  draft() {
    return {scores: this.scores};
  }

  restore(draft) {
    for (const row of this.rows) {
      const score = draft.scores?.[row.criterion.id];
      if (typeof score === "number") row.set(score);
    }
    this.at = Math.max(0, this.rows.findIndex(row => row.score === null));
  }

  // At hand, and not scrolled to: what is judged is seen first.
  begin() {
    this.go(this.at, false);
  }

  // What is sent; null while something is missing.
  given() {
    return this.rows.every(row => row.score !== null) ? {scores: [{...this.scores}]} : null;
  }

  // Goes to what is missing, and says so.
  missing() {
    const left = this.rows.filter(row => row.score === null);
    this.go(this.rows.indexOf(left[0]));
    return `${left.length} of ${this.rows.length} criteria ${left.length === 1 ? "has" : "have"} no score yet.`;
  }

  go(at, scroll = true) {
    this.at = Math.max(0, Math.min(this.rows.length - 1, at));
    this.rows.forEach((row, number) => row.element.classList.toggle("current", number === this.at));
    this.rows[this.at].element.focus({preventScroll: true});
    if (scroll) this.rows[this.at].element.scrollIntoView({block: "nearest"});
  }

  // A score, after which the next criterion without one is at hand.
  score(number, value) {
    this.rows[number].set(value);
    this.changed();
    const next = this.rows.findIndex((row, other) => other > number && row.score === null);
    if (next >= 0) this.go(next);
    else if (this.given()) document.querySelector(".submit").focus({preventScroll: true});
    else this.missing();
  }

  pressed(event) {
    const row = this.rows[this.at];
    const digit = /^[0-9]$/.test(event.key) ? Number(event.key) : null;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") this.go(this.at + (event.key === "ArrowDown" ? 1 : -1));
    else if (row.binary && (event.key === "y" || digit === 1)) this.score(this.at, 1);
    else if (row.binary && (event.key === "n" || digit === 0)) this.score(this.at, 0);
    else if (!row.binary && digit !== null && digit <= MARKS) this.score(this.at, digit / MARKS);
    else if (!row.binary && (event.key === "ArrowLeft" || event.key === "ArrowRight")) row.nudge(event.key === "ArrowRight" ? STEP : -STEP);
    else return false;
    return true;
  }
}

class Row {
  constructor(criterion, number, form) {
    this.criterion = criterion;
    this.binary = criterion.scale === "binary";
    this.score = null;
    this.form = form;
    const label = `criterion-${number}`;
    const marks = this.binary ? [[0, "No", "n"], [1, "Yes", "y"]] : [...Array(MARKS + 1).keys()].map(mark => [mark / MARKS, String(mark), ""]);
    this.buttons = marks.map(([value, text, key]) =>
      h("button", {value, "aria-pressed": "false", onclick: () => form.score(number, value)}, text, key && h("kbd", {"aria-hidden": "true"}, key)));
    this.exact = h("output", {class: "exact"}, "–");
    this.slider = !this.binary && h("input", {type: "range", min: 0, max: 1, step: STEP, value: 0, "aria-label": `${criterion.id}, exactly`,
                                              oninput: () => this.slid()});
    this.element = h("div", {class: "criterion", role: "group", tabindex: "-1", "aria-labelledby": label, onfocusin: () => this.noticed(number)},
                     h("div", {class: "asked", id: label}, h("h3", {}, criterion.id), h("p", {}, criterion.description)),
                     h("div", {class: "marks"}, this.buttons),
                     this.slider && h("div", {class: "exactly"}, this.slider, this.exact));
  }

  // Somebody has come by the Tab key or a click.
  noticed(number) {
    this.form.at = number;
    this.form.rows.forEach((row, other) => row.element.classList.toggle("current", number === other));
  }

  slid() {
    this.set(Number(this.slider.value));
    this.form.changed();
  }

  nudge(by) {
    this.set(Math.max(0, Math.min(1, Math.round(((this.score ?? 0.5) + by) * 100) / 100)));
    this.form.changed();
  }

  set(value) {
    this.score = value;
    this.form.scores[this.criterion.id] = value;
    this.element.classList.add("scored");
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(Number(button.value) === value));
    if (this.slider) this.slider.value = value;
    fill(this.exact, value.toFixed(2));
  }
}
