// Which of two works is better.
import {h} from "./dom.js";

const CHOICES = [["left", "A is better", "←", [[0], [1]]], ["tie", "Tie", "↓", [[0, 1]]], ["right", "B is better", "→", [[1], [0]]]];
const KEYS = {ArrowLeft: "left", ArrowDown: "tie", "=": "tie", ArrowRight: "right"};

export class PairForm {
  constructor(lease, changed) {
    this.changed = changed;
    this.chosen = "";
    this.buttons = CHOICES.map(([value, label, key]) =>
      h("button", {value, "aria-pressed": "false", onclick: () => this.choose(value)}, label, h("kbd", {"aria-hidden": "true"}, key)));
    this.element = h("div", {class: "choices-of-pair marks", role: "group", "aria-label": "Which is better?"}, this.buttons);
  }

  draft() {
    return {chosen: this.chosen};
  }

  restore(draft) {
    if (CHOICES.some(([value]) => value === draft.chosen)) this.mark(draft.chosen);
  }

  begin() {
    document.getElementById("main").focus({preventScroll: true});
  }

  given() {
    const row = CHOICES.find(([value]) => value === this.chosen);
    return row ? {order: row[3]} : null;
  }

  missing() {
    return "Choose the better one first, or a tie.";
  }

  choose(value) {
    this.mark(value);
    this.changed();
    document.querySelector(".submit").focus({preventScroll: true});
  }

  mark(value) {
    this.chosen = value;
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.value === value));
  }

  pressed(event) {
    if (!(event.key in KEYS)) return false;
    this.choose(KEYS[event.key]);
    return true;
  }
}
