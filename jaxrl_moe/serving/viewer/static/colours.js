// How tokens are coloured: each mode gives a token one of a few classes, which the style sheet colours.
import {h, number} from "./dom.js";

const PROBABILITIES = [0.9, 0.5, 0.2, 0.05, 0.01];
const MISMATCHES = [0.001, 0.01, 0.05, 0.2, 1];
const SHADES = 4;

export const MODES = {
  advantage: {
    label: "Advantage", key: "a",
    has: tokens => tokens.advantages,
    of: (tokens, at, scale) => {
      const value = tokens.advantages?.[at];
      if (value === null || value === undefined) return "";
      const shade = scale > 0 ? Math.min(SHADES, Math.ceil(SHADES * Math.abs(value) / scale - 1e-9)) : 0;
      return shade ? `${value < 0 ? "less" : "more"}-${shade}` : "even";
    },
    legend: scale => [
      ["", scale > 0 ? number(-scale, 3) : ""],
      ...[4, 3, 2, 1].map(shade => [`less-${shade}`, ""]), ["even", ""], ...[1, 2, 3, 4].map(shade => [`more-${shade}`, ""]),
      ["", scale > 0 ? `+${number(scale, 3)}` : ""]]
  },
  logprob: {
    label: "Log-prob", key: "l",
    has: tokens => tokens.logprobs,
    of: (tokens, at) => {
      const value = tokens.logprobs?.[at];
      if (value === null || value === undefined || !tokens.loss_mask?.[at]) return "";
      return `rare-${PROBABILITIES.filter(bound => Math.exp(value) < bound).length}`;
    },
    legend: () => [["rare-0", "p ≥ 0.9"], ["rare-1", "0.5"], ["rare-2", "0.2"], ["rare-3", "0.05"],
                   ["rare-4", "0.01"], ["rare-5", "less"]]
  },
  mismatch: {
    label: "Mismatch", key: "m",
    has: tokens => tokens.mismatch,
    of: (tokens, at) => {
      const value = tokens.mismatch?.[at];
      if (value === null || value === undefined || !tokens.loss_mask?.[at]) return "";
      return `rare-${MISMATCHES.filter(bound => value >= bound).length}`;
    },
    legend: () => [["rare-0", "|Δ log-prob| < 0.001"], ["rare-1", "0.01"], ["rare-2", "0.05"], ["rare-3", "0.2"],
                   ["rare-4", "1"], ["rare-5", "more"]]
  },
  mask: {
    label: "Mask", key: "x",
    has: tokens => tokens.loss_mask,
    of: (tokens, at) => tokens.loss_mask ? tokens.loss_mask[at] ? "trained" : "untrained" : "",
    legend: () => [["trained", "trained"], ["untrained", "not trained"]]
  }
};

export function legend(mode, scale) {
  return h("div", {class: "legend"}, MODES[mode].legend(scale).map(([name, label]) =>
    h("span", {class: "legend-entry"}, name && h("span", {class: `swatch ${name}`}), label && h("span", {}, label))));
}
