// What is wrong, in words of the user's language, with what can be done about it.

import { say } from "./language.js";

export class Problems {
  constructor(root) {
    const part = (name) => root.querySelector(`#problem-${name}`);
    Object.assign(this, { root, title: part("title"), text: part("text"), countdown: part("countdown"), actions: part("actions") });
  }

  #shown = null;
  #timer = 0;

  /** `fault.code` names the text; `actions`: [key of the label, function]. The first is the one to take. */
  show(fault, actions) {
    const until = fault.retryS === null ? 0 : performance.now() + fault.retryS * 1000;
    this.#shown = { fault, actions, until };
    this.root.dataset.code = fault.code;
    this.draw();
    this.root.hidden = false;
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#count(), 250);
  }

  hide() {
    this.#shown = null;
    clearInterval(this.#timer);
    this.root.hidden = true;
    delete this.root.dataset.code;
  }

  draw() {
    if (!this.#shown) return;
    const { fault, actions } = this.#shown;
    this.title.textContent = say(fault.code);
    this.text.textContent = say(`${fault.code}_text`, { message: fault.message });
    this.actions.replaceChildren(...actions.map(([key, act], index) => button(key, act, index ? "quiet" : "primary small")));
    this.#count();
  }

  #count() {
    if (!this.#shown) return;
    const seconds = Math.max(0, Math.ceil((this.#shown.until - performance.now()) / 1000));
    this.countdown.hidden = !this.#shown.until;
    const text = say("retry_in", { seconds });
    if (this.countdown.textContent !== text) this.countdown.textContent = text;
  }
}

function button(key, act, kind) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.dataset.action = key;
  made.textContent = say(key);
  made.addEventListener("click", act);
  return made;
}
