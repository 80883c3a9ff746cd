// What a conversation needs of the device: a screen that stays on, and a level that is seen to move.

const METER_MS = 250;
const SHAPE = [0.55, 0.8, 1, 0.8, 0.55];

let lock = null;
let wanted = false;

/** Whether the device's screen is to stay on. */
export async function keepAwake(awake) {
  wanted = awake;
  if (!awake) return void lock?.release().catch(() => {});
  try {
    lock = await navigator.wakeLock?.request("screen");
  } catch {
    // A battery saver decides otherwise.
  }
}

document.addEventListener("visibilitychange", () => wanted && !document.hidden && keepAwake(true));

/** Draw a level of 0 to 1 into a meter of bars, for as long as the page lives. */
export function drawLevel(meter, level) {
  const bars = [...meter.children];
  let shown = 0;
  const frame = () => {
    const now = level();
    shown = now > shown ? now : shown * 0.88;
    bars.forEach((bar, index) => bar.style.setProperty("--level", (shown * SHAPE[index]).toFixed(3)));
    document.documentElement.style.setProperty("--loudness", shown.toFixed(3));
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  setInterval(() => meter.setAttribute("aria-valuenow", Math.round(100 * shown)), METER_MS);
}
