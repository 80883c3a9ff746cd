// Where on the session's clock the sound is that is being heard.

const SAMPLES = 8;
const POLL_MS = 1000;

/** The clock is told once a second, some time after it was read; what is heard lies behind by the jitter buffer. */
export class Playhead {
  #offsets = [];
  #delayMs = 100;
  #last = { delay: 0, count: 0 };
  #polledAt = 0;

  reset() {
    this.#offsets = [];
    this.#last = { delay: 0, count: 0 };
  }

  /** The gateway's clock says `ms`. */
  heard(ms, receivers) {
    this.#offsets = [...this.#offsets, ms - performance.now()].slice(-SAMPLES);
    this.#poll(receivers);
  }

  /** Milliseconds of the session's clock, or null before it was ever told. */
  now() {
    if (!this.#offsets.length) return null;
    return performance.now() + Math.max(...this.#offsets) - this.#delayMs;
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
