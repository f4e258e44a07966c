// The page: takes a picture, asks the server once, and shows what came back.

import { css, paint, partAt, partsOf } from './drawing.js';
import { bytesOf } from './masks.js';

const LONGEST = 1600; // pixels of the canvas
const LEAST_SCORE = 0.05; // the lower end of the slider
const at = (id) => document.getElementById(id);
const canvas = at('canvas'), context = canvas.getContext('2d');
let offer, current, asking; // what the server offers; the file that is shown; the request on its way
let answer, image, stem, parts = [], scale = 1, hovered, pressed; // of the last answer

start();

async function start() {
  try {
    offer = await (await fetch('models')).json();
  } catch {
    return say('The server does not answer: is it still running?', 'error');
  }
  for (const { name } of offer.models) at('model').add(new Option(name, name));
  at('model').disabled = offer.models.length === 1;
  for (let i = 0; i < offer.examples; i++) addExample(`examples/${i}`, i + 1);
  listen();
}

function addExample(address, number) {
  const button = document.createElement('button'), small = new Image();
  small.src = address;
  small.alt = `Example ${number}`;
  button.type = 'button';
  button.append(small);
  button.onclick = async () => take(new File([await (await fetch(address)).blob()], `example_${number}.jpg`));
  at('examples').append(button);
}

function listen() {
  at('file').onchange = () => { take(at('file').files[0]); at('file').value = ''; };
  at('model').onchange = () => current && take(current);
  document.onpaste = (event) => takeFirst(event.clipboardData);
  document.ondragover = (event) => { event.preventDefault(); document.body.classList.add('dragging'); };
  document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove('dragging');
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove('dragging');
    takeFirst(event.dataTransfer);
  };
  document.onkeydown = (event) => { if (event.key === 'Escape') { pressed = hovered = undefined; redraw(); } };
  at('score').oninput = () => { list(); redraw(); };
  for (const id of ['boxes', 'masks', 'names']) at(id).onchange = redraw;
  canvas.onpointermove = canvas.onpointerdown = hover;
  canvas.onpointerleave = () => { hovered = undefined; redraw(); };
  window.onresize = () => answer && redraw();
  at('save-image').onclick = saveImage;
  at('save-json').onclick = () => save(new Blob([JSON.stringify(answer)], { type: 'application/json' }), 'json');
}

function takeFirst(transfer) {
  const file = [...transfer?.files ?? []][0];
  if (file) take(file);
  else if (transfer?.types.includes('text/uri-list')) say('Drop a file: the server fetches no address.', 'error');
}

// Asks the server about `file` and shows its answer, or its reason.
async function take(file) {
  if (!file) return;
  asking?.abort();
  const mine = asking = new AbortController(), began = performance.now();
  current = file;
  if (file.size > offer.max_bytes) {
    return fail(`The file must have at most ${offer.max_bytes / 1e6} MB, it has ${(file.size / 1e6).toFixed(1)}.`);
  }
  say('Looking …', 'busy');
  at('result').classList.add('old');
  try {
    let bitmap = await createImageBitmap(file).catch(() => null);
    let found = await ask(file, !bitmap, mine.signal);
    // Some browsers turn pictures by tags that the server does not follow, or the reverse: then it shows its own.
    if (bitmap && (bitmap.width !== found.width || bitmap.height !== found.height)) found = await ask(file, true, mine.signal);
    if (found.preview) bitmap = await createImageBitmap(new Blob([bytesOf(found.preview)]));
    delete found.preview;
    if (mine === asking) await show(found, bitmap, (performance.now() - began) / 1000);
  } catch (error) {
    if (error.name !== 'AbortError') fail(sentence(error.message));
  }
}

async function ask(file, preview, signal) {
  const query = new URLSearchParams({ model: at('model').value, score: LEAST_SCORE, preview });
  let response;
  try {
    response = await fetch(`predict?${query}`, { method: 'POST', body: file, signal });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('The server does not answer: is it still running?');
  }
  const content = await response.json().catch(() => ({ error: `the server answers with status ${response.status}` }));
  if (!response.ok) throw new Error(content.error);
  return content;
}

async function show(found, bitmap, seconds) {
  const model = offer.models.find(({ name }) => name === found.model);
  scale = Math.min(LONGEST / Math.max(found.width, found.height), 8);
  parts = await partsOf(found, model, scale);
  [answer, image, hovered, pressed] = [found, bitmap, undefined, undefined];
  stem = current.name.replace(/\.[^.]*$/, '') || 'picture';
  canvas.width = Math.max(1, Math.round(found.width * scale));
  canvas.height = Math.max(1, Math.round(found.height * scale));
  const isDetection = model.task === 'detection';
  at('score-row').hidden = at('boxes').parentElement.hidden = !isDetection;
  at('masks').parentElement.hidden = !parts.some((part) => part.mask);
  at('masks-name').textContent = isDetection ? 'Masks' : 'Classes';
  at('time').textContent = `${found.width} × ${found.height} pixels, ${found.seconds.toFixed(2)} s for the model, ${seconds.toFixed(2)} s in all`;
  at('result').hidden = false;
  at('result').classList.remove('old');
  at('drop').classList.add('small');
  say('');
  list();
  redraw();
}

const shown = () => parts.filter((part) => part.isRegion || part.score >= at('score').value);

function list() {
  const some = shown(), objects = parts.filter((part) => !part.isRegion);
  at('score-shown').textContent = Number(at('score').value).toFixed(2);
  at('score').setAttribute('aria-valuetext', at('score-shown').textContent);
  if (!some.includes(pressed)) pressed = undefined;
  const regions = parts.length - objects.length;
  const words = answer.scores ? [`${some.length - regions} of ${objects.length} objects`] : [];
  if (regions) words.push(answer.sem_seg_png ? `${regions} ${regions === 1 ? 'class' : 'classes'}` : `${regions} segments`);
  at('summary').textContent = words.join(', ');
  canvas.setAttribute('aria-label', `The picture with ${words.join(' and ')}`);
  at('list').replaceChildren(...some.map(row));
}

function row(part) {
  const item = document.createElement('li'), button = document.createElement('button');
  button.type = 'button';
  button.innerHTML = '<svg viewBox="0 0 8 8" aria-hidden="true"><rect width="8" height="8" rx="2"/></svg><span class="name"></span><span class="number"></span>';
  button.querySelector('rect').setAttribute('fill', css(part.colour));
  button.querySelector('.name').textContent = part.name;
  button.querySelector('.number').textContent = number(part);
  button.onpointerenter = button.onfocus = () => { hovered = part; redraw(); };
  button.onpointerleave = button.onblur = () => { hovered = undefined; redraw(); };
  button.onclick = () => { pressed = pressed === part ? undefined : part; redraw(); };
  part.button = button;
  item.append(button);
  return item;
}

const number = (part) => (part.isRegion ? `${(100 * part.share).toFixed(1)} %` : part.score.toFixed(2));

function redraw() {
  if (!answer) return;
  const unit = canvas.width / (canvas.clientWidth || canvas.width), some = shown();
  const options = Object.fromEntries(['boxes', 'masks', 'names'].map((id) => [id, at(id).checked]));
  paint(context, image, some, options, hovered ?? pressed, unit);
  for (const part of some) {
    part.button.setAttribute('aria-pressed', part === pressed);
    part.button.classList.toggle('hovered', part === hovered);
  }
  if (!hovered) at('tip').hidden = true;
}

function hover(event) {
  if (!answer) return;
  const frame = canvas.getBoundingClientRect(), ratio = canvas.width / frame.width;
  hovered = partAt(shown(), (event.clientX - frame.left) * ratio, (event.clientY - frame.top) * ratio);
  redraw();
  if (!hovered) return;
  const tip = at('tip'), outer = tip.parentElement.getBoundingClientRect();
  tip.hidden = false;
  tip.textContent = `${hovered.name} ${number(hovered)}`;
  const x = Math.min(event.clientX - outer.left + 14, outer.width - tip.offsetWidth - 4);
  const y = Math.min(event.clientY - outer.top + 18, outer.height - tip.offsetHeight - 4);
  tip.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
}

// At the size of the picture, where what is on the screen may be smaller or larger.
async function saveImage() {
  const whole = Object.assign(document.createElement('canvas'), { width: answer.width, height: answer.height });
  const model = offer.models.find(({ name }) => name === answer.model);
  const chosen = new Set(shown().map((part) => parts.indexOf(part)));
  const some = (await partsOf(answer, model, 1)).filter((_, i) => chosen.has(i));
  const options = Object.fromEntries(['boxes', 'masks', 'names'].map((id) => [id, at(id).checked]));
  paint(whole.getContext('2d'), image, some, options, undefined, Math.max(answer.width, answer.height) / 900);
  whole.toBlob((blob) => save(blob, 'jpg'), 'image/jpeg', 0.92);
}

function save(blob, suffix) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = `${stem}_${answer.model}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function fail(text) {
  at('result').hidden = true;
  say(text, 'error');
}

function say(text, kind = '') {
  at('message').textContent = text;
  at('message').className = kind;
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
