// Where on the session's clock the sound is that is being heard.

const SAMPLES = 8;
const POLL_MS = 1000;

/** The clock is told once a second, some time after it was read; what is heard lies behind by the jitter buffer. */
export class Playhead {
  #offsets = [];
  #delayMs = 100;
  #guess = null;
  #last = { delay: 0, count: 0 };
  #polledAt = 0;

  reset() {
    this.#offsets = [];
    this.#guess = null;
    this.#last = { delay: 0, count: 0 };
  }

  /** The gateway's clock says `ms`. */
  heard(ms, receivers) {
    this.#offsets = [...this.#offsets, ms - performance.now()].slice(-SAMPLES);
    this.#poll(receivers);
  }

  /** Words that begin at `ms` are told when they become due: good enough until the clock is told for the first time. */
  due(ms) {
    this.#guess ??= ms - performance.now();
  }

  /** Milliseconds of the session's clock, or null when nothing is known of it. */
  now() {
    const offset = this.#offsets.length ? Math.max(...this.#offsets) : this.#guess;
    return offset === null ? null : performance.now() + offset - this.#delayMs;
  }

  async #poll(receivers) {
    if (performance.now() - this.#polledAt < POLL_MS) return;
    this.#polledAt = performance.now();
    const audio = receivers.find((receiver) => receiver.track.kind === "audio");
    for (const entry of (await audio?.getStats())?.values() ?? []) {
      if (entry.type === "inbound-rtp" && entry.jitterBufferEmittedCount) this.#measured(entry);
    }
  }

  #measured({ jitterBufferDelay: delay, jitterBufferEmittedCount: count }) {
    const emitted = count - this.#last.count;
    if (emitted > 0 && this.#last.count) this.#delayMs = (1000 * (delay - this.#last.delay)) / emitted;
    this.#last = { delay, count };
  }
}
