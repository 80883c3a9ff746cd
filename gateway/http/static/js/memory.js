// Choices that outlive the page. A browser that keeps nothing (private windows, blocked storage) is fine too.

const PREFIX = "talkmesh.";

export function kept(name) {
  try {
    return localStorage.getItem(PREFIX + name) || "";
  } catch {
    return "";
  }
}

export function keep(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Then it is asked again next time.
  }
}
