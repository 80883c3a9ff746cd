// How long the last answer took to begin, and where the time went.

import { say, speaks } from "./language.js";

export class Latency {
  constructor(place, summary, stages, models) {
    Object.assign(this, { place, summary, stages, models });
  }

  #last = null;

  /** `done`: how a turn ended. */
  show(done) {
    if (!done.first_audio_ms) return;
    this.#last = done;
    this.draw();
  }

  /** The models that serve the session. */
  made(models) {
    this.models.textContent = models.map(({ service, model }) => `${service} ${model}`).join(" · ");
  }

  hide() {
    this.#last = null;
    this.place.hidden = true;
    this.place.open = false;
  }

  draw() {
    if (!this.#last) return;
    const { first_audio_ms: audio, first_video_ms: video, stages } = this.#last;
    this.place.hidden = false;
    this.summary.textContent = say(video ? "latency" : "latency_audio", { audio: inMs(audio), video: inMs(video) });
    const longest = Math.max(1, ...stages.map(({ ms }) => ms));
    const rows = stages.map(({ name, ms }) => row(speaks(`stage_${name}`) ? say(`stage_${name}`) : name, ms, ms / longest));
    rows.push(row(say("total_audio"), audio), ...(video ? [row(say("total_video"), video)] : []));
    this.stages.replaceChildren(...rows);
  }
}

function inMs(ms) {
  return `${Math.round(ms)} ms`;
}

function row(name, ms, share = null) {
  const [line, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
  term.textContent = name;
  value.textContent = inMs(ms);
  line.append(term, value);
  if (share === null) line.className = "total";
  else line.style.setProperty("--share", share.toFixed(3));
  return line;
}
