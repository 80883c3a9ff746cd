// Push to talk: a button, a finger or the space bar that is held; and a click by those who cannot hold.

const SHORT_MS = 250;
const KEYS_OF_THEIR_OWN = "input:not([type=radio]), textarea, select, button, summary, a, [contenteditable]";

/** Events: "pressed", "released" (detail: whether it was held too shortly to be meant). */
export class Talking extends EventTarget {
  constructor(button) {
    super();
    this.button = button;
    button.addEventListener("pointerdown", (event) => this.#pointerDown(event));
    for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(type, () => this.#pointerUp());
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    button.addEventListener("click", (event) => this.#clicked(event));
    addEventListener("keydown", (event) => this.#keyDown(event));
    addEventListener("keyup", (event) => this.#keyUp(event));
    addEventListener("blur", () => this.release());
    document.addEventListener("visibilitychange", () => document.hidden && this.release());
  }

  enabled = false;
  held = false;
  #since = 0;
  #byPointer = false;

  press() {
    if (!this.enabled || this.held) return;
    this.held = true;
    this.#since = performance.now();
    this.dispatchEvent(new Event("pressed"));
  }

  release() {
    if (!this.held) return;
    this.held = false;
    const short = performance.now() - this.#since < SHORT_MS;
    this.dispatchEvent(new CustomEvent("released", { detail: short }));
  }

  #pointerDown(event) {
    if (!this.enabled || event.button > 0) return;
    this.#byPointer = true;
    this.button.setPointerCapture(event.pointerId);
    this.press();
  }

  #pointerUp() {
    if (this.#byPointer) this.release();
    this.#byPointer = false;
  }

  /** A click without a pointer comes from assistive technology: the first presses, the second releases. */
  #clicked(event) {
    if (!this.enabled || event.detail > 0) return;
    if (this.held) this.release();
    else this.press();
  }

  #keyDown(event) {
    if (event.code !== "Space" || !this.enabled || !this.#ours(event.target)) return;
    event.preventDefault();
    if (!event.repeat) this.press();
  }

  #keyUp(event) {
    if (event.code !== "Space" || !this.enabled || !this.#ours(event.target)) return;
    event.preventDefault();
    this.release();
  }

  #ours(target) {
    return target === this.button || !target.closest?.(KEYS_OF_THEIR_OWN);
  }
}
