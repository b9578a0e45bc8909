/**
 * The size of a file: "1.4 MB".
 * @param {number} count
 */
export function bytes(count) {
  const steps = Math.min(3, Math.floor(Math.log10(Math.max(1, count)) / 3));
  const number = count / 1000 ** steps;
  return `${number.toFixed(steps && number < 10 ? 1 : 0)} ${["B", "kB", "MB", "GB"][steps]}`;
}
