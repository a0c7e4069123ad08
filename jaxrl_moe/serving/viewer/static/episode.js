// One episode: its prompt, and turn by turn what the policy drew and what the environment showed.
import {fill, h, number, plural, visible} from "./dom.js";
import {MODES} from "./colours.js";

const MOST = 5000;  // tokens of a block that are drawn before somebody asks for the rest
const OPEN = 600;   // tokens of a prompt that is shown without a click
const FAILED = ["unreachable", "reset_failed", "step_failed", "timed_out", "crashed", "malformed", "broken"];

export function isFailure(outcome) {
  return FAILED.includes(outcome);
}

export function badge(outcome) {
  const kind = isFailure(outcome) ? "failure" : outcome === "finished" ? "finished" : "other";
  return h("span", {class: `badge ${kind}`}, outcome.replaceAll("_", " "));
}

const card = h("div", {class: "token-card", role: "status", hidden: true});
document.body.append(card);
let pinned = null;

// The greatest advantage of an episode's tokens, which the colours of all are measured by.
export function scaleOf(episode) {
  const values = (episode.traces ?? []).flatMap(trace => trace.completion.advantages ?? []).filter(Number.isFinite);
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

export function drawEpisode(episode, mode, scale) {
  hide();
  if (episode.outcome === "broken") return broken(episode);
  const turns = episode.traces.reduce((sum, trace) => sum + trace.turns.length, 0);
  const tokens = episode.traces.reduce((sum, trace) => sum + trace.completion.ids.length, 0);
  let before = 0;
  const traces = episode.traces.map((trace, at) => {
    const drawn = drawTrace(episode, trace, before, at, mode, scale);
    before += trace.turns.length;
    return drawn;
  });
  return h("article", {class: "episode"},
    h("div", {class: "facts"}, badge(episode.outcome),
      episode.env && fact("env", episode.env), fact("reward", number(episode.reward)),
      episode.used_reward !== null && String(episode.used_reward) !== String(episode.reward) && fact("used", listed(episode.used_reward)),
      episode.advantage !== null && fact("advantage", listed(episode.advantage)),
      fact(turns === 1 ? "turn" : "turns", turns), fact("tokens", tokens),
      Object.entries(episode.info).map(([name, value]) => fact(name, number(value)))),
    episode.message && h("p", {class: "callout"}, visible(episode.message, false)),
    !episode.spelled && h("p", {class: "aside"}, episode.told.startsWith("Ids")
      ? episode.told : "Ids are shown: the tokenizer at hand does not give this row the text that the run wrote beside them."),
    traces,
    Object.entries(episode.notes).map(([name, text]) => plain(`Note: ${name}`, text)),
    !episode.spelled && plain("The completion's text, without special tokens", episode.completion));
}

function fact(name, value) {
  return h("span", {class: "fact"}, h("span", {class: "fact-name"}, name), " ", h("span", {class: "fact-value"}, value));
}

function listed(value) {
  return Array.isArray(value) ? value.map(each => number(each, 3)).join(", ") : number(value);
}

function plain(title, text) {
  return h("section", {class: "block observation"}, h("h4", {}, title), h("div", {class: "said"}, visible(text, false)));
}

function broken(episode) {
  return h("article", {class: "episode"},
    h("div", {class: "facts"}, badge("broken"), fact("row", episode.row + 1), fact("byte", episode.offset), fact("bytes", episode.size)),
    h("p", {class: "callout"}, "This row ", visible(episode.reason, false)),
    plain(episode.size > episode.begins.length ? "How it begins" : "What it holds", episode.begins));
}

function drawTrace(episode, trace, before, at, mode, scale) {
  const {completion, turns} = trace;
  const blocks = [];
  const tokens = trace.prompt.ids.length;
  const many = episode.traces.length > 1;
  const details = h("details", {class: "block prompt", open: tokens <= OPEN && at === 0},
    h("summary", {}, h("h4", {}, "Prompt"), h("span", {class: "size"}, plural(tokens, "token"))),
    at === 0 && !episode.spelled ? h("div", {class: "said"}, visible(episode.prompt, false)) : tokenBlock(trace.prompt, 0, tokens, "", 0));
  if (many) {
    const last = at === episode.traces.length - 1;
    blocks.push(h("h3", {class: "trace"}, `Trace ${at + 1} of ${episode.traces.length}`,
      h("span", {class: "size"}, last ? "the last turn's" : "an earlier one, which later turns do not go on from")));
  }
  blocks.push(details);
  let end = 0;
  turns.forEach(([start, stop, reward], turn) => {
    if (start > end) blocks.push(shownBlock(episode, completion, end, start, before + turn - 1, turn > 0, mode, scale));
    blocks.push(h("section", {class: "block turn"},
      h("h4", {}, `Turn ${before + turn + 1}`, h("span", {class: "size"}, plural(stop - start, "token")),
        reward !== null && h("span", {class: `turn-reward ${reward > 0 ? "plus" : reward < 0 ? "minus" : ""}`}, `reward ${number(reward)}`)),
      tokenBlock(completion, start, stop, mode, scale)));
    end = stop;
  });
  const length = completion.ids.length;
  const messages = episode.messages?.[before + turns.length - 1];
  if (end < length || messages?.length) {
    blocks.push(shownBlock(episode, completion, end, length, before + turns.length - 1, true, mode, scale));
  }
  return h("div", {class: "trace-body"}, blocks);
}

// What the environment showed after a turn: its messages if the row has them, and the tokens that they became.
function shownBlock(episode, completion, start, end, turn, follows, mode, scale) {
  const messages = follows ? episode.messages?.[turn] ?? [] : [];
  const tokens = end > start && tokenBlock(completion, start, end, mode, scale);
  const size = end > start && h("span", {class: "size"}, plural(end - start, "token"));
  if (!messages.length) {
    return h("section", {class: "block observation"}, h("h4", {}, "Between turns", size), tokens);
  }
  return h("section", {class: "block observation"},
    h("h4", {}, "Environment", size),
    messages.map(({role, content}) => h("div", {class: "message"}, h("span", {class: "role"}, role),
                                        h("div", {class: "said"}, visible(content, false)))),
    tokens && h("details", {class: "as-tokens"}, h("summary", {}, "As tokens"), tokens));
}

function tokenBlock(tokens, start, end, mode, scale) {
  const block = h("div", {class: "tokens", tabindex: "0", role: "group", "aria-label": "Tokens; arrow keys go along them"});
  block.tokens = tokens;
  const special = new Set(tokens.special ?? []);
  const add = (from, to) => {
    for (let at = from; at < to; at++) block.append(token(tokens, at, special, mode, scale));
    if (to < end) {
      const more = h("button", {class: "plain more", onclick: () => { more.remove(); add(to, Math.min(end, to + 4 * MOST)); }},
                     `Show ${(Math.min(end, to + 4 * MOST) - to).toLocaleString("en")} more of ${plural(end - to, "token")}`);
      block.append(more);
    }
  };
  add(start, Math.min(end, start + MOST));
  return block;
}

function token(tokens, at, special, mode, scale) {
  const colour = mode ? MODES[mode].of(tokens, at, scale) : "";
  const text = tokens.texts?.[at];
  const kind = text === undefined ? " id" : special.has(at) ? " special" : text === "" ? " part" : "";
  const element = h("span", {class: `t ${colour}${kind}`, "data-at": at},
                    text === undefined ? `${tokens.ids[at]} ` : text === "" ? "◌" : visible(text));
  return element;
}

const ROWS = [
  ["id", (tokens, at) => tokens.ids[at]],
  ["position", (tokens, at) => at],
  ["probability", (tokens, at) => drawn(tokens, at) ? number(Math.exp(tokens.logprobs[at])) : null],
  ["log-prob", (tokens, at) => drawn(tokens, at) ? number(tokens.logprobs[at]) : null],
  ["mismatch", (tokens, at) => tokens.mismatch ? number(tokens.mismatch[at]) : null],
  ["advantage", (tokens, at) => Number.isFinite(tokens.advantages?.[at]) ? number(tokens.advantages[at]) : null],
  ["trained", (tokens, at) => tokens.loss_mask ? tokens.loss_mask[at] ? "yes" : "no" : null],
  ["policy version", (tokens, at) => tokens.policy_version?.[at] ?? null]];

function drawn(tokens, at) {
  return tokens.loss_mask?.[at] && Number.isFinite(tokens.logprobs?.[at]);
}

function tell(element) {
  const tokens = element.parentNode.tokens;
  const at = Number(element.dataset.at);
  const text = tokens.texts?.[at];
  fill(card, text !== undefined && h("div", {class: "token-text"}, text === "" ? "part of a character" : JSON.stringify(text)),
       h("dl", {}, ROWS.map(([name, value]) => [name, value(tokens, at)]).filter(([, value]) => value !== null)
         .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
  card.hidden = false;
  const box = element.getClientRects()[0] ?? element.getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left, innerWidth - card.offsetWidth - 8));
  const below = box.bottom + 8 + card.offsetHeight < innerHeight;
  card.style.left = `${left}px`;
  card.style.top = `${Math.max(8, below ? box.bottom + 8 : box.top - card.offsetHeight - 8)}px`;
}

function pin(element) {
  pinned?.classList.remove("pinned");
  pinned = element;
  pinned?.classList.add("pinned");
  if (pinned) tell(pinned);
  else card.hidden = true;
}

export function hide() {
  pin(null);
}

// Hover and tap, and arrow keys, within an element that holds episodes.
export function watchTokens(element) {
  const at = event => event.target.closest?.(".t");
  element.addEventListener("pointerover", event => !pinned && at(event)?.parentNode.tokens && tell(at(event)));
  element.addEventListener("pointerout", () => !pinned && (card.hidden = true));
  element.addEventListener("click", event => at(event)?.parentNode.tokens ? pin(at(event) === pinned ? null : at(event)) : pin(null));
  element.addEventListener("scroll", () => (card.hidden = true));
  element.addEventListener("keydown", event => {
    const block = event.target.closest?.(".tokens");
    if (event.key === "Escape") pin(null);
    if (!block || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const own = pinned?.parentNode === block ? pinned : null;
    const next = event.key === "ArrowRight" ? own?.nextElementSibling : own?.previousElementSibling;
    pin(own ? next?.matches(".t") ? next : own : block.querySelector(".t"));
    pinned?.scrollIntoView({block: "nearest"});
    event.preventDefault();
    event.stopPropagation();
  });
}
