// The stage: a still portrait until the face moves, its voice, and what to do when the browser keeps that silent.

const FADE_MS = 200;

/** Event "silent" (detail: whether the browser wants a tap before it lets the voice be heard). */
export class Screen extends EventTarget {
  constructor({ video, still }) {
    super();
    Object.assign(this, { video, still });
    video.addEventListener("emptied", () => this.#moving(false));
  }

  #wanted = true; // Whether the user wants to hear.
  #stream = null;

  portrait(image, description) {
    if (!image) this.still.removeAttribute("src");
    else if (this.still.getAttribute("src") !== image) this.still.src = image;
    this.still.alt = description;
  }

  /** Show a stream; null shows the portrait again. */
  show(stream) {
    this.#stream = stream;
    if (stream) {
      this.video.srcObject = stream;
      this.#whenMoving();
      this.play();
    } else {
      this.#moving(false);
      setTimeout(() => this.#stream || (this.video.srcObject = null), FADE_MS);
    }
  }

  /** Play with sound; if the browser does not let that happen without a tap, without. */
  async play() {
    this.video.muted = !this.#wanted;
    try {
      await this.video.play();
      this.#silent(false);
    } catch (error) {
      if (error.name !== "NotAllowedError") return;
      this.video.muted = true;
      this.#silent(true);
      await this.video.play().catch(() => {});
    }
  }

  get audible() {
    return this.#wanted;
  }

  set audible(wanted) {
    this.#wanted = wanted;
    this.play();
  }

  #whenMoving() {
    const seen = () => this.#moving(true);
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(seen);
    else this.video.addEventListener("playing", seen, { once: true });
  }

  #moving(moves) {
    if (moves) document.documentElement.dataset.moving = "true";
    else delete document.documentElement.dataset.moving;
  }

  #silent(silent) {
    this.dispatchEvent(new CustomEvent("silent", { detail: silent }));
  }
}
