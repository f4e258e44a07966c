// Masks out of COCO's compressed run lengths, and maps out of PNGs.

// The lengths of runs of 0, 1, 0, ... down the columns. A character holds 5 bits from 48 on, the sixth says that more
// follow; from the fourth number on, each is the difference to the last but one.
export function runLengths(text) {
  const lengths = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, code;
    do {
      code = text.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16 && shift < 32) value |= -1 << shift;
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
  }
  return lengths;
}

// The part of a mask that is not empty, scaled: {x, y, width, height, data} in pixels of the canvas, or null.
// `buffer` has a byte a pixel of the image, all 0, before and after.
export function sampleMask(rle, scale, buffer) {
  const [height] = rle.size, ones = [];
  let start = 0, top = height, bottom = 0;
  runLengths(rle.counts).forEach((length, i) => {
    if (i % 2 && length) {
      ones.push([start, start + length]);
      const row = start % height;
      const wraps = row + length > height;
      top = Math.min(top, wraps ? 0 : row);
      bottom = Math.max(bottom, wraps ? height : row + length);
    }
    start += length;
  });
  if (!ones.length) return null;
  const left = Math.floor(ones[0][0] / height), right = Math.floor((ones.at(-1)[1] - 1) / height) + 1;
  for (const [from, to] of ones) buffer.fill(1, from, to);
  const mask = sample(left, top, right, bottom, scale, (x, y) => buffer[x * height + y]);
  for (const [from, to] of ones) buffer.fill(0, from, to);
  return mask;
}

// The pixels of `numbers`, a map by rows, that are `number`.
export function sampleMap(numbers, width, height, number, scale) {
  let left = width, top = height, right = 0, bottom = 0;
  for (let at = 0, y = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (numbers[at] !== number) continue;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
      if (y < top) top = y;
      bottom = y + 1;
    }
  }
  return right ? sample(left, top, right, bottom, scale, (x, y) => numbers[y * width + x] === number) : null;
}

function sample(left, top, right, bottom, scale, isInside) {
  const x = Math.floor(left * scale), y = Math.floor(top * scale);
  const width = Math.max(1, Math.ceil(right * scale) - x), height = Math.max(1, Math.ceil(bottom * scale) - y);
  const data = new Uint8Array(width * height);
  for (let i = 0; i < width; i++) {
    const column = clamp(Math.floor((x + i + .5) / scale), left, right - 1);
    for (let j = 0; j < height; j++) {
      const row = clamp(Math.floor((y + j + .5) / scale), top, bottom - 1);
      if (isInside(column, row)) data[j * width + i] = 1;
    }
  }
  return { x, y, width, height, data };
}

const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

// The number of each pixel of a PNG in base64: red + 256 green + 65536 blue if `inColours`, or else its grey.
export async function readMap(base64, inColours) {
  const image = await createImageBitmap(new Blob([bytesOf(base64)]), { colorSpaceConversion: 'none' });
  const context = new OffscreenCanvas(image.width, image.height).getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  const numbers = new Int32Array(image.width * image.height);
  for (let i = 0; i < numbers.length; i++) {
    numbers[i] = inColours ? data[4 * i] | data[4 * i + 1] << 8 | data[4 * i + 2] << 16 : data[4 * i];
  }
  return numbers;
}

// A canvas of the mask in a colour, with its outline, `line` pixels wide.
export function tint(mask, [red, green, blue], line) {
  const { width, height, data } = mask;
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext('2d');
  const image = context.createImageData(width, height);
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[y * width + x];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (!data[at]) continue;
      const isEdge = !(inside(x - line, y) && inside(x + line, y) && inside(x, y - line) && inside(x, y + line));
      image.data.set([red, green, blue, isEdge ? 255 : 110], 4 * at);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
