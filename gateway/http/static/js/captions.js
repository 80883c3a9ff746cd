// What is said, as it is said: the user's words while they are recognised, the reply clause by clause, its spoken word marked.

import { say } from "./language.js";
import { Reply } from "./reply.js";

const MOST_TURNS = 40;
const NEAR_END_PX = 80;
const STALE_MS = 6000;

export class Captions {
  /** `place` scrolls, `list` holds the turns, `announcer` is read out to those who do not see; `nowMs` is a clock. */
  constructor(place, list, announcer, nowMs) {
    this.place = place;
    this.list = list;
    this.announcer = announcer;
    this.nowMs = nowMs;
  }

  #turns = new Map();
  #typed = [];
  #spoken = null; // What the user is saying: nobody knows yet which turn it will be.
  #said = ""; // Of that, what is certain already.
  #stale = 0;
  #drawing = false;

  clear() {
    this.#turns.clear();
    this.#typed = [];
    this.#spoken = null;
    this.#said = "";
    this.list.replaceChildren();
  }

  /** Turns go on over another connection, by a clock that may be another one. */
  carryOver() {
    for (const turn of this.#turns.values()) turn.reply.forgetTimes();
  }

  /** All turns are over: what comes now is of others, whatever their ids. */
  settle() {
    this.carryOver();
    this.#forgetSpoken();
    this.#turns.clear();
    this.#typed = [];
  }

  /** The user has typed this; the gateway gives it the id of a turn later. */
  typed(text) {
    const turn = this.#made();
    this.#typed.push(turn);
    turn.user.textContent = text;
    turn.user.dataset.state = "final";
    this.#follow(true);
  }

  /** Only a final that belongs to a turn is what that turn begins with; all before are of what is just being said. */
  transcript({ turn: id, text, final }) {
    if (!final || !id) return this.#interim(text, final);
    const turn = this.#turns.get(id) ?? this.#typedAs(id, (each) => each.user.textContent === text) ?? this.#spokenAs(id);
    turn.user.textContent = text;
    turn.user.dataset.state = "final";
    this.#announce(`${say("you")}: ${text}`);
    this.#follow();
  }

  #interim(text, certain) {
    const whole = joined(this.#said, text);
    if (certain) this.#said = whole;
    if (!whole) return;
    this.#spoken ??= this.#made();
    this.#spoken.user.textContent = whole;
    this.#spoken.user.dataset.state = "interim";
    clearTimeout(this.#stale);
    this.#stale = setTimeout(() => this.#forgetSpoken(), STALE_MS);
    this.#follow();
  }

  clause({ turn: id, text }) {
    this.#of(id).reply.add(text);
    this.#announce(text);
    this.#follow();
  }

  words({ turn: id, words }) {
    this.#of(id).reply.place(words);
    this.#draw();
  }

  cut({ at_ms: atMs }) {
    for (const turn of this.#turns.values()) turn.reply.cut(atMs);
  }

  done({ turn: id, outcome, user_text: said, reply_text: answer }) {
    if (outcome === "continued") return this.#goesOn(id, said);
    const turn = outcome === "nothing_heard" ? (this.#turns.get(id) ?? this.#spokenAs(id)) : this.#of(id);
    if (said) turn.user.textContent = said;
    turn.user.dataset.state = "final";
    turn.item.dataset.outcome = outcome;
    if (!turn.reply.text && answer) turn.reply.add(answer);
    if (outcome === "nothing_heard" && !turn.reply.text) turn.note("nothing_heard");
    if (outcome === "interrupted" && turn.reply.text) turn.note("interrupted");
    turn.reply.end(outcome === "interrupted");
    this.#draw();
    this.#follow();
  }

  /** The user had only paused: what they said is the beginning of what they are saying. */
  #goesOn(id, said) {
    this.#turns.get(id)?.item.remove();
    this.#turns.delete(id);
    const since = this.#spoken?.user.textContent ?? "";
    this.#said = said;
    this.#interim(since, false);
  }

  /** The texts of this page's own words, in a language that has changed. */
  translate() {
    for (const note of this.list.querySelectorAll("[data-text]")) note.textContent = say(note.dataset.text);
  }

  #of(id) {
    return this.#turns.get(id) ?? this.#typedAs(id, () => true) ?? this.#named(id, this.#made());
  }

  #typedAs(id, fits) {
    const index = this.#typed.findIndex(fits);
    return index < 0 ? null : this.#named(id, this.#typed.splice(index, 1)[0]);
  }

  /** What was being said has become a turn. */
  #spokenAs(id) {
    const turn = this.#spoken ?? this.#made();
    this.#spoken = null;
    this.#said = "";
    clearTimeout(this.#stale);
    return this.#named(id, turn);
  }

  /** It was nothing, or nothing came of it. */
  #forgetSpoken() {
    this.#spoken?.item.remove();
    this.#spoken = null;
    this.#said = "";
  }

  #named(id, turn) {
    this.#turns.set(id, turn);
    return turn;
  }

  #made() {
    const turn = new Turn();
    this.list.append(turn.item);
    if (this.list.children.length > MOST_TURNS) this.list.firstElementChild.remove();
    return turn;
  }

  #announce(text) {
    const line = document.createElement("p");
    line.textContent = text;
    this.announcer.append(line);
    if (this.announcer.children.length > 4) this.announcer.firstElementChild.remove();
  }

  /** Keep the newest in sight, unless the user has scrolled back to read. */
  #follow(always = false) {
    const { scrollHeight, scrollTop, clientHeight } = this.place;
    const below = scrollHeight - scrollTop - clientHeight;
    const newest = this.list.lastElementChild?.clientHeight ?? 0;
    if (always || below < newest + NEAR_END_PX) this.place.scrollTop = scrollHeight;
  }

  /** Mark the spoken word until nothing more is to be spoken. */
  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    const frame = () => {
      const now = this.nowMs();
      let waiting = false;
      for (const turn of this.#turns.values()) waiting = (now !== null && turn.reply.mark(now)) || waiting;
      this.#drawing = waiting;
      if (waiting) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }
}

function joined(before, after) {
  return /[\p{L}\p{N}.,!?;:]$/u.test(before) && !/\p{Script=Han}$/u.test(before) ? `${before} ${after}` : before + after;
}

/** A question and its reply. */
class Turn {
  constructor() {
    this.item = document.createElement("li");
    this.user = document.createElement("p");
    this.user.className = "user";
    const reply = document.createElement("p");
    reply.className = "reply";
    this.reply = new Reply(reply);
    this.item.append(this.user, reply);
  }

  note(key) {
    if (this.item.querySelector(".note")) return;
    const note = document.createElement("p");
    note.className = "note";
    note.dataset.text = key;
    note.textContent = say(key);
    this.item.append(note);
  }
}
