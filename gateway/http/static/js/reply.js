// The text of a reply, and when each of its words is spoken.

const REACH = 60;
const LINGER_MS = 160;
const segmenter = typeof Intl.Segmenter === "function" ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;
const LETTER = /[\p{L}\p{N}]/u;
const ALPHABETIC = /^[\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}\p{N}]/u;

/**
 * Spoken words come without their place in the text, and not always as they are written ("1889"), so each is looked for
 * behind the one before it; what lies between two that were found is spoken between them.
 */
export class Reply {
  constructor(element) {
    this.element = element;
    this.text = "";
  }

  #spans = []; // { element, from, start, end }; `from` is the place of its first letter in #letters.
  #letters = "";
  #owners = []; // The span of each letter.
  #cursor = 0;
  #early = [];
  #over = false;

  /** The next clause. */
  add(text) {
    if (this.text && needsSpace(this.text, text)) this.#append(" ");
    this.#append(text);
    const early = this.#early.splice(0);
    if (early.length) this.place(early);
  }

  /** Words and when they are spoken, in milliseconds of the session's clock. */
  place(words) {
    for (const { word, start_ms: start, end_ms: end } of words) {
      const letters = lettersOf(word);
      if (!letters) continue;
      const at = this.#find(letters);
      if (at < 0) {
        if (!this.#over) this.#early.push({ word, start_ms: start, end_ms: end });
        continue;
      }
      this.#time(at, letters.length, start, end);
      this.#cursor = at + letters.length;
    }
    if (this.#cursor) this.element.dataset.timed = "";
  }

  /** What was to be spoken after `atMs` is not; if it is later, its words are told again. */
  cut(atMs) {
    this.#early = [];
    for (const span of this.#spans) {
      if (span.end === null || span.end <= atMs) continue;
      span.start = span.end = null;
      this.#cursor = Math.min(this.#cursor, span.from);
    }
  }

  /** No more is coming; `interrupted`: what has no time now is never spoken. */
  end(interrupted) {
    this.#over = true;
    if (interrupted) this.element.dataset.interrupted = "";
    else if (!this.#cursor) this.finish();
  }

  /** All of it counts as spoken, and there is no more. */
  finish() {
    this.#over = true;
    this.forgetTimes();
  }

  /** All of it counts as spoken; more may come. */
  forgetTimes() {
    for (const span of this.#spans) span.element.className = "";
    this.#spans = [];
    delete this.element.dataset.timed;
  }

  /** Show what is spoken at `nowMs`; false when nothing more will change. */
  mark(nowMs) {
    if (!this.#spans.length || !this.#cursor) return false;
    const said = this.#spans.findLastIndex((span) => span.start !== null && span.start <= nowMs);
    this.#spans.forEach((span, index) => {
      const now = index === said && nowMs < span.end + LINGER_MS;
      const state = now ? "now" : index <= said ? "said" : "";
      if (span.element.className !== state) span.element.className = state;
    });
    const last = this.#spans.findLast((span) => span.end !== null);
    if (!this.#over || (last && nowMs < last.end + LINGER_MS)) return true;
    if (!("interrupted" in this.element.dataset)) this.finish();
    return false;
  }

  #append(text) {
    this.text += text;
    for (const part of segments(text)) {
      const letters = lettersOf(part);
      const element = document.createElement("span");
      element.textContent = part;
      this.element.append(element);
      if (!letters) continue;
      const span = { element, from: this.#letters.length, start: null, end: null };
      this.#spans.push(span);
      for (let index = 0; index < letters.length; index += 1) this.#owners.push(span);
      this.#letters += letters;
    }
  }

  #find(letters) {
    const limit = this.#cursor + REACH;
    let at = this.#letters.indexOf(letters, this.#cursor);
    // "a" is not meant inside of "Paris"; scripts without spaces have no such borders.
    while (at >= 0 && ALPHABETIC.test(letters) && this.#owners[at].from !== at) at = this.#letters.indexOf(letters, at + 1);
    return at > limit ? -1 : at;
  }

  #time(at, length, start, end) {
    for (const span of new Set(this.#owners.slice(at, at + length))) {
      span.start = span.start === null ? start : Math.min(span.start, start);
      span.end = span.end === null ? end : Math.max(span.end, end);
    }
  }
}

function segments(text) {
  if (segmenter) return [...segmenter.segment(text)].map(({ segment }) => segment);
  return text.split(/(\s+)/);
}

function lettersOf(text) {
  return [...text.normalize("NFKC").toLowerCase()].filter((letter) => LETTER.test(letter)).join("");
}

function needsSpace(before, after) {
  const wide = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}。，！？；：、]/u;
  return !/\s$/.test(before) && !/^\s/.test(after) && !wide.test(before.at(-1)) && !wide.test(after[0]);
}
