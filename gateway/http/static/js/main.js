// The talk page: what happens when something is pressed, said or lost.

import { Call } from "./call.js";
import { Captions } from "./captions.js";
import { Choices } from "./choices.js";
import { Fault, faultOf, unreachable } from "./faults.js";
import { inEveryLanguage, label, say, translate, useNextLanguage } from "./language.js";
import { Latency } from "./latency.js";
import { openMicrophone } from "./microphone.js";
import { Playhead } from "./playhead.js";
import { Problems } from "./problems.js";
import { Screen } from "./screen.js";
import { Talking } from "./talking.js";
import { drawLevel, keepAwake } from "./surroundings.js";
import { shown, takeToken } from "./token.js";

const TAIL_MS = 80; // What is on its way when push to talk is let go is still heard.
const NOTICE_MS = 7000;
const CONFIG_RETRY_S = 3;

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const playhead = new Playhead();
const problems = new Problems($("problem"));
const captions = new Captions($("captions"), $("turns"), $("announcer"), () => playhead.now());
const latency = new Latency($("latency"), $("latency-summary"), $("latency-stages"), $("models"));
const screen = new Screen({ video: $("video"), still: $("still") });
const talking = new Talking($("talk"));

let call = null;
let choices = null;
let microphone = null;
let typing = false; // The user wants no microphone.
let muted = false;
let floor = "listening";
let heard = false; // The gateway hears somebody speak.
let hint = ""; // Shown in place of the talk button's text for a moment.

// --- What is said to the gateway -------------------------------------------------------------------------------------

async function start({ byTyping = typing } = {}) {
  problems.hide();
  typing = byTyping;
  if (!typing && !(await microphoneOpened(start))) return;
  captions.clear();
  latency.hide();
  await call.start(choices.wishes, microphone?.track ?? null);
}

/** Go on with what has been chosen since. */
function changeCall() {
  captions.settle();
  return call.change(choices.wishes, microphone?.track ?? null);
}

/** Whether there is a microphone now; if not, the user is told, and may try `again`. */
async function microphoneOpened(again) {
  if (microphone) return true;
  try {
    microphone = await openMicrophone();
  } catch (fault) {
    const live = call.phase === "live";
    problems.show(fault, [["again", () => again()], live ? ["dismiss", () => problems.hide()] : ["type_instead", () => start({ byTyping: true })]]);
    return false;
  }
  microphone.addEventListener("lost", microphoneLost);
  return true;
}

async function addMicrophone() {
  problems.hide();
  if (!(await microphoneOpened(addMicrophone))) return;
  typing = false;
  muted = false;
  await changeCall();
}

function microphoneLost() {
  closeMicrophone();
  typing = true;
  if (call.phase === "live") notice(new Fault("microphone_lost"));
  draw();
}

function closeMicrophone() {
  microphone?.close();
  microphone = null;
}

function interrupt() {
  if (busy()) call.send({ type: "interrupt" });
}

function sendText(event) {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || !call.send({ type: "ask", text })) return;
  captions.typed(text);
  $("text").value = "";
}

async function end() {
  closeMicrophone();
  await call.end();
  $("start").focus({ preventScroll: true });
}

// --- What the gateway says -------------------------------------------------------------------------------------------

const OBEYED = {
  started(message) {
    playhead.reset();
    captions.carryOver();
    latency.made(message.models ?? []);
  },
  state(message) {
    floor = message.state;
  },
  activity(message) {
    heard = message.speaking;
  },
  clock: (message) => playhead.heard(message.ms, call.receivers),
  transcript: (message) => captions.transcript(message),
  clause: (message) => captions.clause(message),
  words(message) {
    if (message.words.length) playhead.due(message.words[0].start_ms);
    captions.words(message);
  },
  cut: (message) => captions.cut(message),
  done(message) {
    captions.done(message);
    latency.show(message);
  },
  error: (message) => notice(new Fault("turn_failed", { message: message.message })),
};

function obey(message) {
  OBEYED[message.type]?.(message);
  if (message.type !== "clock") draw();
}

function phaseChanged() {
  const { phase } = call;
  if (phase !== "live") {
    floor = "listening";
    heard = false;
    talking.release();
    if (phase !== "reconnecting") screen.show(null);
  }
  if (phase === "ended") closeMicrophone();
  keepAwake(phase === "live");
  draw();
  if (phase === "live" && document.activeElement === document.body) (typing ? $("text") : $("talk")).focus({ preventScroll: true });
}

function problemChanged(fault) {
  if (!fault) return problems.hide();
  if (fault.retryS !== null) problems.show(fault, [["retry_now", () => call.retry()], ["cancel", end]]);
  else if (fault.code === "no_webrtc") problems.show(fault, [["dismiss", () => problems.hide()]]);
  else problems.show(fault, [["start_again", () => start()], ["dismiss", () => problems.hide()]]);
}

/** Something that the conversation survives. */
function notice(fault) {
  problems.show(fault, [["dismiss", () => problems.hide()]]);
  setTimeout(() => problems.root.dataset.code === fault.code && problems.hide(), NOTICE_MS);
}

// --- What is to be seen ----------------------------------------------------------------------------------------------

function busy() {
  return call?.phase === "live" && (floor === "speaking" || floor === "thinking");
}

function talkText() {
  if (hint) return [hint, ""];
  if (!microphone) return busy() ? ["interrupt", "interrupt_key"] : ["microphone_on", ""];
  if (choices.mode === "push") return talking.held ? ["release", ""] : ["hold", "hold_key"];
  if (busy()) return ["interrupt", "interrupt_key"];
  return [muted ? "muted" : heard ? "hears_you" : "listening", ""];
}

function draw() {
  if (!choices) return;
  const { phase } = call;
  const live = phase === "live";
  const push = choices.mode === "push";
  Object.assign(root.dataset, { phase, floor, mode: choices.mode, microphone: !microphone ? "none" : muted && !push ? "muted" : "on" });
  root.toggleAttribute("data-held", talking.held);
  root.toggleAttribute("data-heard", heard);
  talking.enabled = live && push && Boolean(microphone);
  if (microphone) microphone.on = live && (push ? talking.held : !muted);
  drawTexts(phase, live);
  drawControls(live, push);
}

function drawTexts(phase, live) {
  $("connection-text").textContent = say(`phase_${phase}`);
  $("invitation").textContent = choices.name ? say("invitation", { name: choices.name }) : say("invitation_nobody");
  $("floor").hidden = !busy();
  $("floor-text").textContent = say(floor);
  $("start").firstElementChild.textContent = say(phase === "ended" ? "start_again" : "start");
  // What has been chosen during a conversation waits until it is applied.
  if (!live) screen.portrait(choices.image, choices.name && say("portrait_of", { name: choices.name }));
}

function drawControls(live, push) {
  const [text, key] = talkText();
  $("talk-text").textContent = say(text);
  $("talk-key").textContent = key && say(key);
  $("talk").disabled = !live || (!push && Boolean(microphone) && !busy());
  $("talk").setAttribute("aria-pressed", String(talking.held));
  $("mute").hidden = push;
  $("mute").disabled = !live || !microphone;
  $("mute").setAttribute("aria-pressed", String(muted));
  label($("mute"), muted ? "unmute" : "mute");
  $("stop").hidden = !push;
  $("stop").disabled = !busy();
  $("sound").hidden = $("settings").hidden = !live;
  $("sound").setAttribute("aria-pressed", String(!screen.audible));
  label($("sound"), screen.audible ? "sound_off" : "sound_on");
  for (const field of [$("text"), ...$("composer").querySelectorAll("button"), ...$("mode").querySelectorAll("input")]) field.disabled = !live;
}

// --- What is pressed -------------------------------------------------------------------------------------------------

function talkClicked() {
  if (!microphone && !busy()) addMicrophone();
  else if (choices.mode === "auto" || !microphone) interrupt();
}

function mute() {
  muted = !muted;
  draw();
}

function hush() {
  screen.audible = !screen.audible;
  draw();
}

function pressed() {
  call.send({ type: "start_turn" });
  draw();
}

function released({ detail: short }) {
  setTimeout(() => {
    if (talking.held) return; // Pressed again: the same turn goes on.
    call.send({ type: "end_turn" });
    draw();
  }, TAIL_MS);
  if (short) showHint("held_too_short");
  else $("talk-text").textContent = say("hold");
}

function showHint(key) {
  hint = key;
  draw();
  setTimeout(() => {
    hint = "";
    draw();
  }, 2000);
}

function chosen(name) {
  draw();
  if (call.phase !== "live") return;
  if (name === "mode") changeCall();
  else $("again").hidden = false;
}

function openSheet() {
  $("again").hidden = true;
  $("choices-away").append($("choices"));
  $("sheet").showModal();
}

function closeSheet() {
  $("choices-home").append($("choices"));
  $("again").hidden = true;
}

function apply() {
  $("sheet").close();
  changeCall();
}

function listen() {
  $("start").addEventListener("click", () => start({ byTyping: false }));
  $("start-typing").addEventListener("click", () => start({ byTyping: true }));
  $("end").addEventListener("click", end);
  $("composer").addEventListener("submit", sendText);
  $("talk").addEventListener("click", talkClicked);
  $("stop").addEventListener("click", interrupt);
  $("mute").addEventListener("click", mute);
  $("sound").addEventListener("click", hush);
  $("tap").addEventListener("click", () => screen.play());
  $("language").addEventListener("click", useNextLanguage);
  $("settings").addEventListener("click", openSheet);
  $("sheet-close").addEventListener("click", () => $("sheet").close());
  $("sheet").addEventListener("close", closeSheet);
  $("sheet").addEventListener("click", (event) => event.target === $("sheet") && $("sheet").close());
  $("choices").addEventListener("submit", (event) => event.preventDefault());
  $("apply").addEventListener("click", apply);
  screen.addEventListener("silent", (event) => {
    $("tap").hidden = !event.detail;
  });
  talking.addEventListener("pressed", pressed);
  talking.addEventListener("released", released);
  addEventListener("keydown", (event) => event.key === "Escape" && !$("sheet").open && interrupt());
  addEventListener("pagehide", () => ["idle", "ended"].includes(call.phase) || call.end());
}

// --- The page --------------------------------------------------------------------------------------------------------

async function configured() {
  const response = await fetch("api/config", { headers: shown() }).catch(() => { throw unreachable(); });
  if (!response.ok) throw await faultOf(response);
  return response.json();
}

/** What the gateway offers; asked for until it answers. */
async function untilConfigured() {
  for (;;) {
    try {
      return await configured();
    } catch (error) {
      const fault = error instanceof Fault ? error : unreachable();
      fault.retryS ??= CONFIG_RETRY_S;
      await new Promise((resolve) => {
        problems.show(fault, [["retry_now", resolve]]);
        setTimeout(resolve, fault.retryS * 1000);
      });
    }
  }
}

async function begin() {
  takeToken();
  addEventListener("hashchange", takeToken); // The whole link, given to a page that is open already.
  inEveryLanguage(() => {
    translate(document);
    $("connection-text").textContent = say(`phase_${root.dataset.phase}`);
    $("language").textContent = say("switch_language");
    choices?.draw();
    captions.translate();
    latency.draw();
    problems.draw();
    draw();
  });
  const config = await untilConfigured();
  problems.hide();
  call = new Call(config.ice_servers ?? []);
  call.addEventListener("phase", phaseChanged);
  call.addEventListener("message", (event) => obey(event.detail));
  call.addEventListener("stream", (event) => screen.show(event.detail));
  call.addEventListener("problem", (event) => problemChanged(event.detail));
  const fields = { portraits: $("portraits"), voice: $("voice"), voiceField: $("voice-field"), mode: $("mode") };
  choices = new Choices({ portraits: [], voices: [], ...config }, fields);
  choices.addEventListener("change", (event) => chosen(event.detail));
  listen();
  draw();
  drawLevel($("level"), () => microphone?.level() ?? 0);
  if (typeof RTCPeerConnection === "undefined") problemChanged(new Fault("no_webrtc"));
}

begin();
