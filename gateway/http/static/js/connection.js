// One WebRTC connection to the gateway, from its offer to its end (WHIP, RFC 9725, and a data channel named "events").

import { Fault, faultOf, unreachable } from "./faults.js";
import { fragmentOf, gathered, linkedServers } from "./ice.js";
import { shown } from "./token.js";

const CONNECT_MS = 12000;
const DISCONNECTED_MS = 3000;
const SILENT_MS = 5000;

/**
 * Events: "message" (detail: what the gateway said), "lost" (the connection broke; not after `close`).
 * Made by `connected`.
 */
export class Connection extends EventTarget {
  constructor(iceServers) {
    super();
    if (typeof RTCPeerConnection === "undefined") throw new Fault("no_webrtc");
    this.peer = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.stream = new MediaStream();
    this.sessionId = "";
    this.linked = [];
    this.closed = false;
    this.channel = this.peer.createDataChannel("events");
    this.channel.addEventListener("message", (event) => this.#heard(event.data));
    this.channel.addEventListener("close", () => this.#lose());
    this.peer.addEventListener("track", (event) => this.stream.addTrack(event.track));
    this.peer.addEventListener("connectionstatechange", () => this.#changed());
    this.peer.addEventListener("icecandidate", (event) => this.#found(event.candidate));
  }

  #location = "";
  #late = [];
  #posted = false;
  #heardAt = 0;
  #ticks = false;
  #watch = 0;
  #disconnected = 0;

  /** Connect to `url` with a microphone's track, or without one. Throws Fault. */
  async open(url, track, signal) {
    const audio = this.peer.addTransceiver(track ?? "audio", { direction: track ? "sendrecv" : "recvonly" });
    this.microphone = audio.sender;
    preferH264(this.peer.addTransceiver("video", { direction: "recvonly" }));
    await this.peer.setLocalDescription();
    await gathered(this.peer);
    await this.#post(url, signal);
    await this.#ready(signal);
    this.#watch = setInterval(() => this.#check(), 1000);
  }

  /** Tell the gateway something; false if it cannot be told now. */
  send(message) {
    if (this.channel.readyState !== "open") return false;
    this.channel.send(JSON.stringify(message));
    return true;
  }

  /** End it, and say so to the gateway. Resolves when the gateway knows, or cannot be told. */
  async close() {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.#watch);
    clearTimeout(this.#disconnected);
    this.channel.close();
    this.peer.close();
    if (this.#location) await fetch(this.#location, { method: "DELETE", headers: shown(), keepalive: true }).catch(() => {});
  }

  async #post(url, signal) {
    const { sdp } = this.peer.localDescription;
    this.#posted = true;
    const response = await fetch(url, { method: "POST", headers: shown({ "Content-Type": "application/sdp" }), body: sdp, signal })
      .catch((error) => { throw error.name === "AbortError" ? error : unreachable(); });
    if (!response.ok) throw await faultOf(response);
    const location = response.headers.get("Location");
    if (location) this.#located(new URL(location, response.url));
    this.linked = linkedServers(response.headers.get("Link"));
    await this.peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
    this.#trickle();
  }

  #located(location) {
    this.#location = location.href;
    this.sessionId = decodeURIComponent(location.pathname.match(/whip\/([^/]+)\/[^/]+$/)?.[1] ?? "");
  }

  /** Resolves when media and channel are there. */
  #ready(signal) {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (this.peer.connectionState === "failed") reject(new Fault("no_path"));
        else if (this.channel.readyState === "open") resolve();
      };
      setTimeout(() => reject(new Fault("no_path")), CONNECT_MS);
      signal?.addEventListener("abort", () => reject(signal.reason));
      this.peer.addEventListener("connectionstatechange", check);
      this.channel.addEventListener("open", check);
      check();
    });
  }

  #found(candidate) {
    if (!candidate?.candidate || !this.#posted) return;
    this.#late.push(candidate);
    this.#trickle();
  }

  #trickle() {
    if (!this.#location || !this.#late.length) return;
    const body = fragmentOf(this.peer.localDescription.sdp, this.#late.splice(0));
    const headers = shown({ "Content-Type": "application/trickle-ice-sdpfrag" });
    fetch(this.#location, { method: "PATCH", headers, body }).catch(() => {});
  }

  #heard(data) {
    this.#heardAt = Date.now();
    const message = JSON.parse(data);
    if (message.type === "clock") this.#ticks = true;
    this.dispatchEvent(new CustomEvent("message", { detail: message }));
  }

  #changed() {
    clearTimeout(this.#disconnected);
    if (this.peer.connectionState === "failed") this.#lose();
    if (this.peer.connectionState === "disconnected") this.#disconnected = setTimeout(() => this.#lose(), DISCONNECTED_MS);
  }

  /** ICE needs up to 30 s to see that nobody is there any more. The gateway's clock, once a second, tells sooner. */
  #check() {
    if (this.#ticks && Date.now() - this.#heardAt > SILENT_MS) this.#lose();
  }

  #lose() {
    if (this.closed) return;
    this.close();
    this.dispatchEvent(new Event("lost"));
  }
}

/** What the renderer makes is H.264: then nothing has to be encoded again for this viewer. */
function preferH264(transceiver) {
  const codecs = RTCRtpReceiver.getCapabilities?.("video")?.codecs;
  if (!codecs || !transceiver.setCodecPreferences) return;
  const first = codecs.filter((codec) => codec.mimeType === "video/H264");
  transceiver.setCodecPreferences([...first, ...codecs.filter((codec) => !first.includes(codec))]);
}
