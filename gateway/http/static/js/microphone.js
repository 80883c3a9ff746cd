// The microphone: asked for, muted, measured.

import { Fault, microphoneFault } from "./faults.js";

const WANTED = { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 } };
const QUIETEST_DB = -55;
const LOUDEST_DB = -18;

/** Ask for the microphone. Throws Fault. */
export async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Fault("microphone_insecure");
  try {
    return new Microphone(await navigator.mediaDevices.getUserMedia(WANTED));
  } catch (error) {
    throw microphoneFault(error);
  }
}

/** Event "lost": it was unplugged, or its permission withdrawn. */
export class Microphone extends EventTarget {
  constructor(stream) {
    super();
    this.stream = stream;
    [this.track] = stream.getAudioTracks();
    this.track.addEventListener("ended", () => this.dispatchEvent(new Event("lost")));
    this.#measure();
  }

  #context = null;
  #analyser = null;
  #samples = new Float32Array(1024);

  get on() {
    return this.track.enabled;
  }

  /** What is off sends silence, and is not measured either. */
  set on(wanted) {
    this.track.enabled = wanted;
  }

  /** Loudness of the last 20 ms or so, 0 (silence) to 1 (loud speech). */
  level() {
    if (!this.#analyser || !this.on) return 0;
    if (this.#context.state === "suspended") this.#context.resume();
    this.#analyser.getFloatTimeDomainData(this.#samples);
    const power = this.#samples.reduce((sum, sample) => sum + sample * sample, 0) / this.#samples.length;
    const db = 10 * Math.log10(power + 1e-12);
    return Math.min(1, Math.max(0, (db - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB)));
  }

  close() {
    this.track.stop();
    this.#context?.close();
  }

  #measure() {
    if (typeof AudioContext === "undefined") return;
    this.#context = new AudioContext();
    this.#analyser = this.#context.createAnalyser();
    this.#analyser.fftSize = this.#samples.length;
    this.#context.createMediaStreamSource(this.stream).connect(this.#analyser);
  }
}
