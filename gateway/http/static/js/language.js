// The language of the page: the one in the address, the one chosen before, or the first of the browser's that we speak.

import { WORDS } from "./words.js";
import { kept, keep } from "./memory.js";

let current = chosen();
const listeners = [];

function chosen() {
  const asked = [new URLSearchParams(location.search).get("lang"), kept("language"), ...navigator.languages];
  const known = asked.map((tag) => (tag || "").toLowerCase().split("-")[0]);
  return known.find((tag) => tag in WORDS) || "en";
}

/** Its tag: "en" or "zh". */
export function language() {
  return current;
}

/** Text of a key, with {placeholders} filled in; a key that is not known is its own text. */
export function say(key, values = {}) {
  const text = WORDS[current][key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** Whether there is a text of this key. */
export function speaks(key) {
  return key in WORDS[current];
}

/** Call `listener` now and whenever the language changes. */
export function inEveryLanguage(listener) {
  listeners.push(listener);
  listener();
}

export function useNextLanguage() {
  const tags = Object.keys(WORDS);
  current = tags[(tags.indexOf(current) + 1) % tags.length];
  keep("language", current);
  listeners.forEach((listener) => listener());
}

/** Fill in everything below `root` that says by attribute what it says. */
export function translate(root) {
  document.documentElement.lang = current === "zh" ? "zh-CN" : current;
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) label(element, element.dataset.label);
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = say(element.dataset.placeholder);
}

/** Name an element for those who do not see it, and in its tooltip if it is a button. */
export function label(element, key) {
  element.dataset.label = key;
  element.setAttribute("aria-label", say(key));
  if (element.tagName === "BUTTON") element.title = say(key);
}
