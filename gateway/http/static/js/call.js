// A conversation over any number of connections: begun, lost and taken up again, ended.

import { Connection } from "./connection.js";
import { Fault } from "./faults.js";
import { shown } from "./token.js";

const TAKE_UP_MS = 30000;
const FIRST_PAUSE_MS = 400;
const LONGEST_PAUSE_MS = 5000;

/**
 * `phase`: idle, connecting, live, reconnecting, waiting (to try again by itself) or ended.
 * Events: "phase"; "message" (detail: what the gateway said); "stream" (there is another one);
 * "problem" (detail: a Fault, or null when it is over; its `retryS` counts down in phase "waiting").
 */
export class Call extends EventTarget {
  constructor(iceServers) {
    super();
    this.iceServers = iceServers;
  }

  phase = "idle";
  sessionId = "";
  #wishes = {};
  #track = null;
  #connection = null;
  #life = null;
  #hurry = () => {};

  get stream() {
    return this.#connection?.stream ?? null;
  }

  get receivers() {
    return this.#connection?.peer.getReceivers() ?? [];
  }

  /** Begin a new conversation. `wishes`: of the query of /whip; `track`: a microphone's, or null to type only. */
  start(wishes, track) {
    this.sessionId = "";
    return this.#begin(wishes, track);
  }

  /** Go on with the same conversation by other wishes (another face, another mode): its history is kept. */
  async change(wishes, track) {
    if (this.phase !== "live") return;
    const old = this.#connection;
    this.#connection = null;
    this.#enter("connecting"); // From now on nothing can be said, also while the old connection is being closed.
    await old.close();
    // A live session keeps the wishes it began with: it ends, and another one takes its history over.
    await fetch(`api/sessions/${encodeURIComponent(this.sessionId)}`, { method: "DELETE", headers: shown() }).catch(() => {});
    await this.#begin(wishes, track);
  }

  send(message) {
    return this.#connection?.send(message) ?? false;
  }

  retry() {
    this.#hurry();
  }

  async end() {
    this.#life?.abort(new DOMException("ended", "AbortError"));
    const connection = this.#connection;
    this.#connection = null;
    this.#enter("ended");
    this.#tell("problem", null);
    await connection?.close();
  }

  async #begin(wishes, track) {
    this.#wishes = wishes;
    this.#track = track;
    this.#life?.abort(new DOMException("begun anew", "AbortError"));
    this.#life = new AbortController();
    await this.#untilLive("connecting", Infinity);
  }

  /** Try until it is live. Gives up on a fault that does not pass, and after `patienceMs`. */
  async #untilLive(phase, patienceMs) {
    const { signal } = this.#life;
    const deadline = Date.now() + patienceMs;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      this.#enter(phase);
      try {
        return await this.#connect(signal);
      } catch (error) {
        if (signal.aborted) return;
        const fault = error instanceof Fault ? error : new Fault("refused", { message: String(error) });
        if (fault.code === "gone" && phase === "connecting" && this.sessionId) {
          this.sessionId = ""; // Its history is forgotten; the user wants to talk all the same.
          continue;
        }
        if (this.#isFinal(fault, phase) || Date.now() > deadline) return this.#fail(fault);
        await this.#pause(fault, phase, attempt, signal);
      }
    }
  }

  #isFinal(fault, phase) {
    return fault.retryS === null && !(phase === "reconnecting" && fault.code === "no_path");
  }

  async #connect(signal) {
    const connection = new Connection(this.iceServers);
    connection.addEventListener("message", (event) => this.#heard(connection, event.detail));
    connection.addEventListener("lost", () => this.#lost(connection));
    try {
      await connection.open(this.#url(), this.#track, signal);
    } catch (error) {
      connection.close();
      throw error;
    }
    this.#adopt(connection);
  }

  #adopt(connection) {
    this.#connection = connection;
    this.sessionId = connection.sessionId || this.sessionId;
    const known = new Set(this.iceServers.flatMap((server) => server.urls));
    this.iceServers.push(...connection.linked.filter((server) => !known.has(server.urls[0]) && !needsLogin(server)));
    this.#tell("problem", null);
    this.#tell("stream", connection.stream);
    this.#enter("live");
  }

  #url() {
    const query = new URLSearchParams(Object.entries(this.#wishes).filter(([, value]) => value));
    if (this.sessionId) query.set("session", this.sessionId);
    return `whip?${query}`;
  }

  #heard(connection, message) {
    if (message.type === "started") this.sessionId = message.session_id;
    if (message.type === "error" && message.code === "ABORTED") {
      connection.close();
      if (this.#connection === connection) this.#fail(new Fault("taken_over"));
      return;
    }
    this.#tell("message", message);
  }

  #lost(connection) {
    if (this.#connection !== connection) return;
    this.#connection = null;
    this.#untilLive("reconnecting", TAKE_UP_MS);
  }

  async #pause(fault, phase, attempt, signal) {
    const quick = phase === "reconnecting" && fault.code === "unreachable";
    const ms = quick ? Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS) * (0.8 + 0.4 * Math.random()) : (fault.retryS ?? 1) * 1000;
    if (!quick) {
      this.#enter(phase === "reconnecting" ? phase : "waiting");
      this.#tell("problem", fault);
    }
    await new Promise((resolve) => {
      this.#hurry = resolve;
      setTimeout(resolve, ms);
      signal.addEventListener("abort", resolve);
      addEventListener("online", resolve, { once: true });
    });
  }

  #fail(fault) {
    this.#life?.abort(new DOMException("failed", "AbortError"));
    this.#connection = null;
    this.#enter("ended");
    this.#tell("problem", this.#meant(fault));
  }

  /** Without a session, what was not found is something that was wished for; what is given up is not tried again. */
  #meant(fault) {
    if (fault.code === "gone" && !this.sessionId) return new Fault("refused", { message: fault.message });
    return new Fault(fault.code, { message: fault.message });
  }

  #enter(phase) {
    if (this.phase === phase) return;
    this.phase = phase;
    this.#tell("phase", phase);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function needsLogin(server) {
  return /^turns?:/.test(server.urls[0]) && !server.username;
}
