/** Numbers and moments in words. */

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * 0.006 -> "6 ms", 4.25 -> "4.3 s", 90 -> "1 min 30 s", 7300 -> "2 h 1 min"
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 0.1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return parts(whole, MINUTE, "min", 1, "s");
  if (whole < DAY) return parts(whole, HOUR, "h", MINUTE, "min");
  return parts(whole, DAY, "d", HOUR, "h");
}

/**
 * The same in whole seconds, for what is counted up.
 * @param {number} seconds
 */
export function elapsed(seconds) {
  return seconds < 10 ? `${Math.max(0, Math.floor(seconds))} s` : duration(Math.floor(seconds));
}

/**
 * The same, no finer than a guess is: "a few seconds", "about 25 s", "about 3 min"
 * @param {number} seconds
 */
export function about(seconds) {
  if (seconds < 8) return "a few seconds";
  if (seconds < MINUTE) return `about ${Math.ceil(seconds / 5) * 5} s`;
  if (seconds < HOUR) return `about ${Math.ceil(seconds / MINUTE)} min`;
  return `about ${duration(seconds)}`;
}

/**
 * How long ago a moment was, as the server writes moments: "just now", "3 min ago".
 * @param {string} moment
 */
export function ago(moment) {
  const seconds = secondsSince(moment);
  if (seconds < 5) return "just now";
  if (seconds < MINUTE) return `${Math.floor(seconds)} s ago`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ago`;
  return `${Math.floor(seconds / DAY)} d ago`;
}

/**
 * A moment as a clock on the reader's wall shows it.
 * @param {string | null} moment
 */
export const clock = (moment) => (moment ? new Date(moment).toLocaleString() : "");

/** @param {string} moment */
export const secondsSince = (moment) => (Date.now() - Date.parse(moment)) / 1000;

/**
 * @param {string} from
 * @param {string} to
 */
export const secondsBetween = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

/**
 * "fetching_inputs" -> "fetching inputs"
 * @param {string} name
 */
export const plain = (name) => name.replaceAll("_", " ");

/**
 * @param {number} whole
 * @param {number} large
 * @param {string} largeName
 * @param {number} small
 * @param {string} smallName
 */
function parts(whole, large, largeName, small, smallName) {
  const rest = Math.floor((whole % large) / small);
  const first = `${Math.floor(whole / large)} ${largeName}`;
  return rest ? `${first} ${rest} ${smallName}` : first;
}
