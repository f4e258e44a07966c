// A result on a canvas: its objects or regions with their masks, drawn again at every change without asking the server.

import { readMap, sampleMap, sampleMask, tint } from './masks.js';

// The parts of an answer: {name, score, share, colour, box, mask, tinted, isRegion}, masks at `scale`.
export async function partsOf(answer, model, scale) {
  const objects = answer.sem_seg_png ? [] : objectsOf(answer, model, scale);
  const regions = await regionsOf(answer, model, scale);
  return [...objects, ...regions];
}

function objectsOf(answer, model, scale) {
  const buffer = answer.masks && new Uint8Array(answer.width * answer.height);
  return answer.scores.map((score, i) => {
    const colour = model.colours[answer.labels[i]];
    const mask = answer.masks ? sampleMask(answer.masks[i], scale, buffer) : null;
    const box = answer.bboxes[i].map((value) => value * scale);
    return { name: answer.label_names[i], score, colour, box, mask, tinted: mask && tint(mask, colour, 2) };
  });
}

async function regionsOf(answer, model, scale) {
  const isPanoptic = 'panoptic_seg_png' in answer;
  if (!isPanoptic && !answer.sem_seg_png) return [];
  const numbers = await readMap(isPanoptic ? answer.panoptic_seg_png : answer.sem_seg_png, isPanoptic);
  const counts = new Map();
  for (const number of numbers) counts.set(number, (counts.get(number) ?? 0) + 1);
  const known = isPanoptic
    ? answer.segments_info.map((info) => ({ number: info.id, label: info.label, name: info.label_name }))
    : Object.entries(answer.labels).map(([name, label]) => ({ number: label, label, name }));
  const regions = known.map(({ number, label, name }) => {
    const colour = model.colours[label];
    const mask = sampleMap(numbers, answer.width, answer.height, number, scale);
    const share = (counts.get(number) ?? 0) / numbers.length;
    return { name, share, colour, mask, tinted: mask && tint(mask, colour, 1), isRegion: true };
  });
  return regions.sort((a, b) => b.share - a.share);
}

// Draws `image` and the `shown` parts; `unit` is a pixel of the screen in pixels of the canvas.
export function paint(context, image, shown, options, chosen, unit) {
  const { width, height } = context.canvas;
  context.globalAlpha = 1;
  context.drawImage(image, 0, 0, width, height);
  const isDim = (part) => chosen && part !== chosen;
  const bestLast = [...shown].reverse().sort((a, b) => (a === chosen) - (b === chosen));
  for (const part of bestLast) {
    if (!options.masks || !part.tinted) continue;
    context.globalAlpha = isDim(part) ? .12 : 1;
    context.drawImage(part.tinted, part.mask.x, part.mask.y);
  }
  for (const part of bestLast) {
    context.globalAlpha = isDim(part) ? .2 : 1;
    if (options.boxes && part.box) outline(context, part, unit, part === chosen);
    if (options.names && part.box) caption(context, part, unit);
  }
  if (options.names) {
    for (const part of bestLast.filter((part) => part.isRegion && part.mask && part.share > .005)) {
      context.globalAlpha = isDim(part) ? .2 : 1;
      caption(context, part, unit);
    }
  }
  context.globalAlpha = 1;
}

function outline(context, { box: [x1, y1, x2, y2], colour }, unit, isChosen) {
  context.lineWidth = (isChosen ? 3.5 : 2) * unit;
  context.strokeStyle = css(colour);
  context.strokeRect(x1, y1, x2 - x1, y2 - y1);
}

function caption(context, part, unit) {
  const text = part.box ? `${part.name} ${part.score.toFixed(2)}` : part.name;
  const size = 13 * unit, pad = 4 * unit, tall = size + 1.4 * pad;
  context.font = `600 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  const wide = context.measureText(text).width + 2 * pad;
  let [x, y] = part.box ? [part.box[0] - unit, part.box[1] - tall] : middle(part);
  if (!part.box) [x, y] = [x - wide / 2, y - tall / 2];
  x = Math.max(0, Math.min(x, context.canvas.width - wide));
  y = Math.max(0, Math.min(y, context.canvas.height - tall));
  context.fillStyle = css(part.colour);
  context.fillRect(x, y, wide, tall);
  context.fillStyle = isLight(part.colour) ? '#000' : '#fff';
  context.textBaseline = 'middle';
  context.fillText(text, x + pad, y + tall / 2 + unit / 2);
}

// The middle of the longest row of a region: the centre of its mass may lie outside it.
function middle(part) {
  if (part.middle) return part.middle;
  const { x, y, width, data } = part.mask;
  let longest = 0, ends = [];
  for (let at = 0, length = 0; at < data.length; at++) {
    length = data[at] ? (at % width ? length : 0) + 1 : 0;
    if (length > longest) [longest, ends] = [length, [at]];
    else if (length && length === longest) ends.push(at);
  }
  const end = ends[ends.length >> 1];
  part.middle = [x + end % width + 1 - longest / 2, y + Math.floor(end / width)];
  return part.middle;
}

// The smallest part at a point of the canvas, objects before regions, or undefined.
export function partAt(shown, x, y) {
  const there = shown.filter((part) => (part.mask ? isInMask(part.mask, x, y) : part.box && isInBox(part.box, x, y)));
  return there.sort((a, b) => Boolean(a.isRegion) - Boolean(b.isRegion) || area(a) - area(b))[0];
}

function isInMask(mask, x, y) {
  const column = Math.floor(x) - mask.x, row = Math.floor(y) - mask.y;
  return column >= 0 && row >= 0 && column < mask.width && row < mask.height && mask.data[row * mask.width + column] === 1;
}

const isInBox = ([x1, y1, x2, y2], x, y) => x >= x1 && x <= x2 && y >= y1 && y <= y2;
const area = ({ box, mask }) => (box ? (box[2] - box[0]) * (box[3] - box[1]) : mask.width * mask.height);
export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;
const isLight = ([red, green, blue]) => 0.299 * red + 0.587 * green + 0.114 * blue > 140;
