// Where things stand: the queue, the runs that wait for it, how long answers take, how far judges agree.
import {Chart} from "./chart.js";
import {fill, h, number, plural, svg} from "./dom.js";
import {call, LoggedOut} from "./api.js";

const MINUTE = 60;  // seconds
const TILES = [["waiting", "wait"], ["leased", "with judges"], ["postponed", "put off by you"], ["done", "done"], ["answered", "answered by you"]];

export class ProgressView {
  constructor(lost) {
    this.lost = lost;
    this.tiles = h("dl", {class: "tiles"});
    this.runs = h("div", {class: "waiting-runs"});
    this.took = new Chart("Seconds that your answers took", at => this.took.mark(at), null, "answer");
    this.came = new Chart("Your answers so far", at => this.came.mark(at), null, "minute");
    this.agreement = h("section", {class: "card agreement", "aria-label": "Agreement"});
    this.element = h("div", {class: "progress"}, h("h1", {}, "Progress"), this.tiles, this.runs,
                     h("div", {class: "grid-of-charts"}, this.took.element, this.came.element, this.agreement));
  }

  async update(progress) {
    this.queue(progress);
    try {
      this.plots(await call("plots"));
    } catch (error) {
      if (!(error instanceof LoggedOut)) throw error;
      this.lost();
    }
  }

  queue(progress) {
    if (!progress) return;
    fill(this.tiles, TILES.map(([key, label]) => h("div", {}, h("dt", {}, label), h("dd", {}, progress[key].toLocaleString("en")))));
    const oldest = progress.oldest_seconds;
    fill(this.runs, h("h2", {}, "Runs that wait"),
         progress.runs.length ? h("ul", {}, progress.runs.map(run => h("li", {}, h("span", {class: "name"}, run.name || "without a name"), h("b", {}, plural(run.items, "item")))))
           : h("p", {}, "None."),
         oldest > 0 && h("p", {}, `The oldest item has waited for ${spoken(oldest)}.`));
  }

  plots({recent, agreement}) {
    const order = recent.map((_, at) => at + 1);
    const minutes = recent.map(each => -Math.round(each.ago / MINUTE));
    this.took.set([{run: 0, steps: order, values: recent.map(each => each.seconds)}], 0, [1, recent.length]);
    this.came.set([{run: 0, steps: minutes, values: order}], 0, [minutes[0] ?? 0, 0]);
    fill(this.agreement, h("h2", {}, "Agreement"), drawn(agreement));
  }
}

function drawn({items, fleiss, pairs, gold, model}) {
  const rows = [...pairs.map(pair => [`You and ${pair.with}`, pair.kappa]), ["You and the AI judge", model], ["All judges (Fleiss)", fleiss]]
    .filter(([, kappa]) => kappa !== null);
  return [h("p", {}, items ? `Kappa over ${plural(items, "item")} that several judged: 1 is full agreement, 0 what chance gives.` : "No item has been judged by several yet."),
          rows.length > 0 && h("ul", {class: "kappas"}, rows.map(([label, kappa]) => h("li", {}, h("span", {class: "name"}, label), bar(kappa), h("b", {}, number(kappa, 2))))),
          gold.asked > 0 && h("p", {}, `Of ${plural(gold.asked, "item")} whose answer is known, ${gold.right} were right.`)];
}

// A bar from 0 to a kappa, on an axis from -1 to 1.
function bar(kappa) {
  const [from, to] = [Math.min(0, kappa), Math.max(0, kappa)].map(at => 50 + 50 * Math.max(-1, Math.min(1, at)));
  return svg("svg", {class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true"},
             svg("rect", {class: "rail", x: 0, y: 4, width: 100, height: 2}),
             svg("rect", {class: kappa < 0 ? "less" : "more", x: from, y: 1, width: Math.max(0.5, to - from), height: 8}),
             svg("rect", {class: "zero", x: 49.75, y: 0, width: 0.5, height: 10}));
}

function spoken(seconds) {
  if (seconds < 2 * MINUTE) return plural(Math.round(seconds), "second");
  if (seconds < 120 * MINUTE) return plural(Math.round(seconds / MINUTE), "minute");
  return plural(Math.round(seconds / MINUTE / 60), "hour");
}
