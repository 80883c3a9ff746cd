// What can go wrong on the way to a conversation. `code` is a key of words.js.

export class Fault extends Error {
  /** `retryS`: the same may succeed after so many seconds; null if it will not by itself. */
  constructor(code, { message = "", retryS = null } = {}) {
    super(message || code);
    this.code = code;
    this.retryS = retryS;
  }
}

const UNREACHABLE_RETRY_S = 5;

export function unreachable() {
  return new Fault("unreachable", { retryS: UNREACHABLE_RETRY_S });
}

/** The fault that an error response tells of. */
export async function faultOf(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // A proxy's page, not the gateway's JSON.
  }
  const retryS = Number(response.headers.get("Retry-After")) || error.retry_after_s || 3;
  const message = error.message || `HTTP ${response.status}`;
  if (response.status === 502 || response.status === 504) return unreachable();
  if (response.status === 401 || response.status === 403) return new Fault("no_key", { message });
  if (response.status === 404) return new Fault("gone", { message });
  if (response.status === 429 || error.code === "RESOURCE_EXHAUSTED") return new Fault("busy", { message, retryS });
  if (response.status === 503) return new Fault("not_ready", { message, retryS });
  return new Fault("refused", { message });
}

const OF_MICROPHONES = {
  NotFoundError: "no_microphone",
  OverconstrainedError: "no_microphone",
  NotAllowedError: "microphone_denied",
  SecurityError: "microphone_denied",
};

/** The fault that an error of getUserMedia tells of. */
export function microphoneFault(error) {
  return new Fault(OF_MICROPHONES[error.name] ?? "microphone_busy", { message: error.message });
}
