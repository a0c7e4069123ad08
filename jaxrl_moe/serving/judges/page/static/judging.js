// The view in which an item is judged: it takes one, shows it, keeps it while somebody works on it, and sends
// what they say.
import {fill, h} from "./dom.js";
import {call, LoggedOut, once, Refused} from "./api.js";
import {dropDraft, dropDrafts, readDraft, saveDraft} from "./drafts.js";
import {PairForm} from "./pair.js";
import {RankingForm} from "./ranking.js";
import {RubricForm} from "./rubric.js";
import {showTask, showWork} from "./works.js";

const FORMS = {rubric: RubricForm, pairwise: PairForm, ranking: RankingForm};
const SECOND = 1000;
const EMPTY = 5 * SECOND;     // between two looks at an empty queue
const IDLE = 60 * SECOND;     // after which nobody is thought to look
const RETURNS = [["skip", "Skip", "s", "Skipped: you are not shown it again."],
                 ["postpone", "Put off", "p", "Put off: you are shown it again once there is nothing else."],
                 ["give_back", "Give back", "u", "Given back, for anybody."]];

export class JudgingView {
  // said(text) tells; lost() is called where nobody is logged in any more; moved() where the queue has changed.
  constructor({said, lost, moved}) {
    this.said = said;
    this.lost = lost;
    this.moved = moved;
    this.lease = null;
    this.busy = false;
    this.active = Date.now();
    this.clock = h("span", {class: "clock", role: "timer"});
    this.comment = h("textarea", {id: "comment", rows: 1, maxlength: 10000, placeholder: "Comment", "aria-label": "Comment", oninput: () => this.keep()});
    this.submit = h("button", {class: "submit", onclick: () => this.answer()}, "Submit", h("kbd", {"aria-hidden": "true"}, "Enter"));
    this.returns = RETURNS.map(([name, label, key, done]) =>
      h("button", {class: "plain", onclick: () => this.giveUp(name, done)}, label, h("kbd", {"aria-hidden": "true"}, key)));
    this.element = h("div", {class: "judging"});
    for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
      addEventListener(kind, () => { this.active = Date.now(); }, {passive: true, capture: true});
    }
    setInterval(() => this.tick(), SECOND);
  }

  begin(session) {
    this.leaseSeconds = session.lease_seconds;
    this.next();
  }

  // Forgets what it shows, as nobody is there to judge it.
  end() {
    this.lease = null;
    clearTimeout(this.later);
    fill(this.element);
  }

  async next() {
    clearTimeout(this.later);
    const answer = await this.asking(() => call("lease", {}));
    if (!answer) return;
    if (answer.refused) this.said(answer.refused);
    if (answer.lease) this.show(answer.lease);
    else this.rest();
    this.moved();
  }

  rest() {
    this.lease = null;
    fill(this.element, h("p", {class: "hint"}, "Nothing waits for you. What comes appears here by itself."));
    this.later = setTimeout(() => this.next(), EMPTY);
  }

  show(lease) {
    dropDrafts();
    const draft = readDraft(lease.token);
    this.lease = lease;
    this.over = false;
    this.dated(lease.seconds_left);
    this.seconds = Number(draft.seconds) || 0;
    this.comment.value = typeof draft.comment === "string" ? draft.comment : "";
    this.form = new FORMS[lease.mode](lease, () => this.keep());
    this.form.restore(draft);
    fill(this.element, this.drawn(lease));
    this.element.className = `judging ${lease.mode}`;
    this.tick(0);
    document.getElementById("main").scrollTop = 0;
    this.form.begin();
  }

  drawn(lease) {
    const titles = {rubric: () => "What came of it", pairwise: work => "AB"[work], ranking: work => `Work ${work + 1}`};
    const works = lease.works.map((work, number) => showWork(work, titles[lease.mode](number), this.form.tools?.[number]));
    return [h("div", {class: "shown"}, showTask(lease.works[0].task), h("div", {class: "works"}, works)),
            h("section", {id: "form", class: "form", "aria-label": "Your judgement"},
              this.asks(lease), this.form.element,
              this.comment, h("div", {class: "actions"}, this.submit, this.returns), this.clock)];
  }

  // Where works are compared, what to look at stands above.
  asks(lease) {
    if (lease.mode === "rubric") return null;
    return h("ul", {class: "looked-at", "aria-label": "What to look at"},
             lease.rubric.criteria.map(each => h("li", {}, h("b", {}, each.id), ` ${each.description}`)));
  }

  dated(seconds) {
    this.renewed = Date.now();
    this.until = this.renewed + seconds * SECOND;
  }

  keep() {
    saveDraft(this.lease.token, {...this.form.draft(), comment: this.comment.value, seconds: this.seconds});
  }

  async answer() {
    const given = this.form.given();
    if (!given) return this.said(this.form.missing());
    const {token} = this.lease;
    const body = {token, ...given, comment: this.comment.value, seconds: this.seconds};
    await this.leave(() => call("answer", body), "Your answer is kept.");
  }

  async giveUp(name, done) {
    const {token} = this.lease;
    await this.leave(() => call(name, {token}), done);
  }

  // Makes a call after which the item is no longer here, and takes the next.
  async leave(request, done) {
    if (this.busy || !this.lease) return;
    const {token} = this.lease;
    this.setBusy(true);
    try {
      const answer = await this.asking(request);
      if (!answer) return;
      dropDraft(token);
      this.lease = null;
      this.said(answer.refused ?? done);
      await this.next();
    } finally {
      this.setBusy(false);
    }
  }

  // The answer; {refused} where the queue says no to this lease for good; nothing where it must be mended here.
  async asking(request) {
    try {
      return await request();
    } catch (error) {
      if (error instanceof Refused && error.status === 409) return {refused: error.message};
      if (error instanceof LoggedOut) this.lost();
      else if (error instanceof Refused) this.said(error.message);
      else throw error;
      return null;
    }
  }

  setBusy(busy) {
    this.busy = busy;
    for (const button of [this.submit, ...this.returns]) button.disabled = busy;
  }

  tick(passed = 1) {
    if (!this.lease) return;
    const now = Date.now();
    const looking = !document.hidden && now - this.active < IDLE;
    if (looking) this.seconds += passed;
    if (!this.over && !this.renewing && this.active > this.renewed && now - this.renewed > this.leaseSeconds * SECOND / 4) this.renew();
    const left = Math.ceil((this.until - now) / SECOND);
    this.over ||= left <= 0;
    this.clock.classList.toggle("late", left < 60);
    fill(this.clock, this.over ? "The time for this is over, and somebody else may be shown it. Your answer is taken all the same."
      : `Yours for ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}, counted anew while you work on it`);
  }

  async renew() {
    const {token} = this.lease;
    this.renewing = true;
    try {
      const {seconds_left: seconds} = await once("renew", {token});
      if (this.lease?.token === token) this.dated(seconds);
    } catch (error) {
      if (error instanceof Refused && error.status === 409 && this.lease?.token === token) this.over = true;
      else if (error instanceof LoggedOut) this.lost();
      else this.renewed = Date.now() - this.leaseSeconds * SECOND / 4 + EMPTY;  // soon again
    } finally {
      this.renewing = false;
    }
  }

  pressed(event) {
    if (!this.lease) return false;
    const given = RETURNS.findIndex(([, , key]) => key === event.key);
    if (this.form.pressed(event)) return true;
    if (event.key === "Enter") this.answer();
    else if (event.key === "c") this.comment.focus();
    else if (given >= 0) this.giveUp(RETURNS[given][0], RETURNS[given][3]);
    else return false;
    return true;
  }
}
