// A chart of one metric over whole numbers, such as optimisation steps; a line a run.
import {fill, h, number, svg} from "./dom.js";

const HEIGHT = 190;
const MARGIN = {left: 52, right: 12, top: 10, bottom: 24};

// About `count` round numbers from `low` to `high`.
export function ticks(low, high, count) {
  const raw = (high - low) / count;
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(factor => factor * power).find(candidate => candidate >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) {
    found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  }
  return found;
}

// An exponential mean whose early values are not drawn to zero; gaps stay gaps.
export function smoothed(values, keep) {
  let sum = 0;
  let weight = 0;
  return values.map(value => {
    if (value === null) return null;
    sum = keep * sum + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    return sum / weight;
  });
}

// The path of a line; of many points in one column of pixels the least and the greatest are left.
export function path(steps, values, x, y) {
  const parts = [];
  let open = false;
  let column = null;
  const flush = () => {
    if (!column) return;
    const points = column.points.length > 4
      ? [column.points[0], column.low, column.high, column.points.at(-1)].sort((a, b) => a[2] - b[2]) : column.points;
    for (const [px, py] of points) {
      parts.push(`${open ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`);
      open = true;
    }
    column = null;
  };
  steps.forEach((step, at) => {
    const value = values[at];
    if (value === null) {
      flush();
      open = false;
      return;
    }
    const point = [x(step), y(value), at];
    if (column && column.at !== Math.round(point[0])) flush();
    column ??= {at: Math.round(point[0]), points: [], low: point, high: point};
    column.points.push(point);
    if (point[1] > column.low[1]) column.low = point;
    if (point[1] < column.high[1]) column.high = point;
  });
  flush();
  return parts.join("");
}

function nearest(steps, wanted) {
  let low = 0;
  let high = steps.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low > 0 && wanted - steps[low - 1] < steps[low] - wanted ? low - 1 : low;
}

function tick(value) {
  const size = Math.abs(value);
  const text = size && (size < 1e-3 || size >= 1e5) ? Number(value.toPrecision(3)).toExponential() : number(value, 3);
  return text.replaceAll("-", "−").replace("e+", "e");
}

// A place on the axis, with a real minus sign.
function whole(step) {
  return String(step).replace("-", "−");
}

export class Chart {
  // hovered(step or null): charts beside it mark the same step; opened(step): one is clicked; without it
  // nothing opens. unit: what is counted along the axis.
  constructor(name, hovered, opened = null, unit = "step") {
    this.unit = unit;
    this.lines = [];
    this.span = null;
    this.values = h("div", {class: "values"});
    this.svg = svg("svg", {class: "chart", height: HEIGHT, role: "img"});
    this.element = h("figure", {class: "card", tabindex: "0", "aria-label": `${name}; arrow keys go along its ${unit}s${opened ? ", Enter opens one" : ""}`},
                     h("figcaption", {}, h("span", {class: "metric"}, name), this.values), this.svg);
    this.svg.addEventListener("pointermove", event => hovered(this.stepAt(event)));
    this.svg.addEventListener("pointerleave", () => hovered(null));
    if (opened) this.svg.addEventListener("click", event => opened(this.stepAt(event)));
    this.element.addEventListener("keydown", event => this.pressed(event, hovered, opened));
    this.element.addEventListener("blur", () => hovered(null));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  // lines: [{run, steps, values}], values in order of steps; span: [first, last] step of all charts.
  set(lines, keep, span) {
    this.lines = lines.map(line => ({...line, smooth: keep ? smoothed(line.values, keep) : line.values, raw: keep > 0}));
    this.span = span;
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth;
    const finite = this.lines.flatMap(line => line.values).filter(value => value !== null);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    if (width < 60 || !finite.length) {
      this.x = null;
      fill(this.svg);
      this.mark(null);
      return;
    }
    let low = finite.reduce((a, b) => Math.min(a, b));
    let high = finite.reduce((a, b) => Math.max(a, b));
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    [low, high] = [low - room, high + room];
    const [first, last] = this.span[0] < this.span[1] ? this.span : [this.span[0] - 1, this.span[1] + 1];
    const right = width - MARGIN.right;
    const bottom = HEIGHT - MARGIN.bottom;
    this.x = step => MARGIN.left + (step - first) / (last - first) * (right - MARGIN.left);
    this.y = value => bottom - (value - low) / (high - low) * (bottom - MARGIN.top);
    this.back = pixel => first + (pixel - MARGIN.left) / (right - MARGIN.left) * (last - first);
    const parts = [];
    for (const value of ticks(low, high, 4)) {
      const at = this.y(value);
      parts.push(svg("line", {class: "grid", x1: MARGIN.left, x2: right, y1: at, y2: at}),
                 svg("text", {class: "tick", x: MARGIN.left - 7, y: at + 3.5, "text-anchor": "end"}, tick(value)));
    }
    for (const step of ticks(first, last, Math.max(2, Math.floor(width / 110))).filter(Number.isInteger)) {
      parts.push(svg("text", {class: "tick", x: this.x(step), y: HEIGHT - 7, "text-anchor": "middle"}, whole(step)));
    }
    for (const line of [...this.lines].reverse()) {
      if (line.raw) parts.push(svg("path", {class: `line raw run-${line.run}`, d: path(line.steps, line.values, this.x, this.y)}));
      parts.push(svg("path", {class: `line run-${line.run}`, d: path(line.steps, line.smooth, this.x, this.y)}));
      line.steps.forEach((step, at) => {
        const alone = (line.smooth[at - 1] ?? null) === null && (line.smooth[at + 1] ?? null) === null;
        if (line.smooth[at] === null || !alone && line.steps.length >= 40) return;
        parts.push(svg("circle", {class: `point run-${line.run}`, cx: this.x(step), cy: this.y(line.smooth[at]), r: 2.2}));
      });
    }
    this.cross = svg("g", {});
    fill(this.svg, ...parts, this.cross);
    this.mark(null);
  }

  // Marks a step, or none: then the last values stand in the caption.
  mark(step) {
    const chosen = this.lines.filter(line => line.steps.length).map(line => {
      const at = step === null ? line.steps.length - 1 : nearest(line.steps, step);
      return {line, at, step: line.steps[at], value: line.smooth[at]};
    });
    fill(this.values, chosen.map(({line, value}) => h("span", {class: `value run-${line.run}`}, number(value))),
         step !== null && h("span", {class: "at"}, `${this.unit} ${whole(step)}`));
    if (!this.x) return;
    fill(this.cross, ...(step === null ? [] : [
      svg("line", {class: "cross", x1: this.x(step), x2: this.x(step), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom}),
      ...chosen.filter(({value}) => value !== null).map(({line, value, step: own}) =>
        svg("circle", {class: `point big run-${line.run}`, cx: this.x(own), cy: this.y(value), r: 4}))]));
    this.marked = step;
  }

  stepAt(event) {
    const steps = this.lines.flatMap(line => line.steps).sort((a, b) => a - b);
    if (!steps.length || !this.x) return null;
    return steps[nearest(steps, this.back(event.clientX - this.svg.getBoundingClientRect().left))];
  }

  pressed(event, hovered, opened) {
    const steps = [...new Set(this.lines.flatMap(line => line.steps))].sort((a, b) => a - b);
    const move = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!steps.length) return;
    if (move) hovered(steps[Math.max(0, Math.min(steps.length - 1, nearest(steps, this.marked ?? steps.at(-1)) + move))]);
    else if (opened && event.key === "Enter" && this.marked !== null && this.marked !== undefined) opened(this.marked);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
