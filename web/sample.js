/** A picture for those who have none at hand. */

import { make } from "./dom.js";

const SIZE = 512;
/** @type {[number, string][]} */
const SKY = [[0, "#312e81"], [0.55, "#f472b6"], [0.75, "#fde68a"], [1, "#fb923c"]];

export function samplePicture() {
  const canvas = make("canvas", { width: SIZE, height: SIZE });
  const pen = canvas.getContext("2d");
  if (!pen) throw new Error("This browser draws nothing.");
  const sky = pen.createLinearGradient(0, 0, 0, SIZE);
  for (const [place, colour] of SKY) sky.addColorStop(place, colour);
  pen.fillStyle = sky;
  pen.fillRect(0, 0, SIZE, SIZE);
  sun(pen);
  hill(pen, "#4c1d95", 380, 60);
  hill(pen, "#1e1b4b", 430, -50);
  return new File([drawn(canvas)], "sample.png", { type: "image/png" });
}

/** @param {HTMLCanvasElement} canvas */
function drawn(canvas) {
  const [, base64 = ""] = canvas.toDataURL("image/png").split(",");
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** @param {CanvasRenderingContext2D} pen */
function sun(pen) {
  pen.fillStyle = "#fff7ed";
  pen.beginPath();
  pen.arc(256, 330, 70, 0, 2 * Math.PI);
  pen.fill();
}

/**
 * @param {CanvasRenderingContext2D} pen
 * @param {string} colour
 * @param {number} height
 * @param {number} rise
 */
function hill(pen, colour, height, rise) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.moveTo(0, height);
  pen.bezierCurveTo(170, height - 2 * rise, 340, height + 2 * rise, SIZE, height - rise);
  pen.lineTo(SIZE, SIZE);
  pen.lineTo(0, SIZE);
  pen.fill();
}
