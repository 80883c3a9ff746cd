// Which face, which voice, who ends a turn.

import { say } from "./language.js";
import { keep, kept } from "./memory.js";

const FROM_ADDRESS = ["portrait", "voice", "mode", "size", "language"];

/** Event "change" (detail: the name of what has changed). */
export class Choices extends EventTarget {
  /** `config`: of /api/config. */
  constructor(config, { portraits, voice, voiceField, mode }) {
    super();
    this.config = config;
    this.fields = { portraits, voice, voiceField, mode };
    const address = new URLSearchParams(location.search);
    const asked = Object.fromEntries(FROM_ADDRESS.map((name) => [name, address.get(name) || kept(name)]));
    const known = (list, name) => (list.some((each) => each.name === name) ? name : "");
    this.portrait = known(config.portraits, asked.portrait) || config.portraits[0]?.name || "";
    this.voice = known(config.voices, asked.voice);
    this.mode = asked.mode === "push" ? "push" : "auto";
    this.size = address.get("size") || "";
    this.language = address.get("language") || "";
    this.#build();
  }

  /** As the query of /whip wants them. */
  get wishes() {
    const { portrait, voice, mode, size, language } = this;
    return { portrait, voice, mode, size, language };
  }

  /** The name of the face as people write it. */
  get name() {
    return this.portrait.charAt(0).toUpperCase() + this.portrait.slice(1);
  }

  get image() {
    return this.config.portraits.find(({ name }) => name === this.portrait)?.image || "";
  }

  draw() {
    this.fields.voice.options[0].textContent = say("voice_default");
  }

  #build() {
    const { portraits, voice, voiceField, mode } = this.fields;
    portraits.append(...this.config.portraits.map((each) => this.#card(each)));
    portraits.hidden = this.config.portraits.length < 2;
    voice.append(option("", say("voice_default")), ...this.config.voices.map(({ name }) => option(name, name)));
    voice.value = this.voice;
    voiceField.hidden = this.config.voices.length < 2;
    voice.addEventListener("change", () => this.#choose("voice", voice.value));
    for (const radio of mode.querySelectorAll("input")) {
      radio.checked = radio.value === this.mode;
      radio.addEventListener("change", () => this.#choose("mode", radio.value));
    }
  }

  #card({ name, image }) {
    const card = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "portrait", value: name });
    radio.checked = name === this.portrait;
    radio.addEventListener("change", () => this.#choose("portrait", name));
    const text = document.createElement("span");
    text.textContent = name.charAt(0).toUpperCase() + name.slice(1);
    card.append(radio);
    if (image) card.append(Object.assign(document.createElement("img"), { src: image, alt: "", width: 64, height: 64 }));
    card.append(text);
    return card;
  }

  #choose(name, value) {
    this[name] = value;
    keep(name, value);
    this.dispatchEvent(new CustomEvent("change", { detail: name }));
  }
}

function option(value, text) {
  return Object.assign(document.createElement("option"), { value, textContent: text });
}
