/* The page of `c3dvideo serve`. One file, no libraries; every text enters the page as text, never as HTML.

   Sections: state and helpers · previews and cards · library · map · player and converted video · compare · labels and
   classifier · uploads · keyboard, routes and the watch over the server. */
"use strict";

/* ---------- state and helpers ---------- */

const $ = (id) => document.getElementById(id);
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#808080"];
const SHAPES = ["o", "s", "^", "d", "v", "+", "x"];
const FEW_POINTS = 6000;
const PAGE = 48;

const S = {
  state: null, videos: [], clips: null, predictions: null,
  rowOf: new Map(), selection: new Set(), results: null, like: [], unlike: [], view: "library",
};

/** A new element. Properties that start with "on" are listeners, others that hold "-" and `role` are attributes. */
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") node.setAttribute(name, value);
    else if (name === "dot") node.style.setProperty("--dot", value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

class ServerError extends Error {}

/** The JSON of an address of the interface; throws ServerError with the reason that the server gives. */
async function api(path, options = {}) {
  let answer;
  try {
    answer = await fetch("/api" + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("the server does not answer");
  }
  if (answer.ok) return answer.json();
  let detail = `the server answers ${answer.status}`;
  try { detail = (await answer.json()).detail || detail; } catch { /* no JSON: keep the number */ }
  throw new ServerError(detail);
}

const post = (path, body) =>
  api(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

function time(seconds) {
  const whole = Math.floor(seconds), s = String(whole % 60).padStart(2, "0"), m = Math.floor(whole / 60) % 60;
  return whole < 3600 ? `${m}:${s}` : `${Math.floor(whole / 3600)}:${String(m).padStart(2, "0")}:${s}`;
}
const moment = (seconds) => `${time(seconds)}.${Math.floor((seconds % 1) * 10)}`;
const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(100 * share)}%`;

/** Colour and shape of the class with this number; the pair repeats only after 49. */
function style(number) {
  if (number < 0) return { colour: "#8b98a5", shape: "o" };
  return { colour: COLOURS[number % 7], shape: SHAPES[(number + Math.floor(number / 7)) % 7] };
}

function fill(select, options, keep = true) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => el("option", { value, textContent: text })));
  if (keep && options.some(([value]) => value === before)) select.value = before;
}

let newsTimer = 0;
function news(text, { bad = false, action = null, label = "", stay = false } = {}) {
  clearTimeout(newsTimer);
  const box = $("news");
  box.replaceChildren(el("span", { textContent: text }));
  if (action) box.append(el("button", { type: "button", textContent: label, onclick: () => { quiet(); action(); } }));
  box.append(el("button", { type: "button", textContent: "Dismiss", onclick: quiet }));
  box.className = bad ? "news bad" : "news";
  box.hidden = false;
  if (!stay) newsTimer = setTimeout(quiet, 9000);
}
function quiet() { clearTimeout(newsTimer); $("news").hidden = true; }
/** Run a handler; what the server refuses is shown, not thrown. */
async function attempt(work) {
  try { return await work(); } catch (error) {
    if (error.name !== "AbortError") news(error.message.replace(/^./, (c) => c.toUpperCase()) + ".", { bad: true });
    if (!(error instanceof ServerError) && error.name !== "AbortError") console.error(error);
    return null;
  }
}

/** A name with places where a line may break: behind slashes, underscores and hyphens. */
function nameNodes(name) { return name.split(/(?<=[/_-])/).flatMap((part, k) => (k ? [el("wbr"), part] : [part])); }

/* Facts about one clip row of the tables. */
const clipVideo = (row) => S.videos[S.clips.video[row]];
const clipLabel = (row) => (S.clips.label[row] < 0 ? "" : S.clips.labels[S.clips.label[row]]);
const clipGuess = (row) => (S.predictions && S.predictions.best.length ? S.predictions.classes[S.predictions.best[row]] : "");
const clipConfidence = (row) => (S.predictions && S.predictions.best.length ? S.predictions.confidence[row] : null);
const classNumber = (name) => (name ? S.classes.indexOf(name) : -1);
function rowsOf(video) { return Array.from({ length: video.n_clips }, (_, i) => video.first + i); }
/** The row of the clip of a video that holds a second. */
function rowAt(video, seconds) {
  let row = video.first;
  for (const each of rowsOf(video)) if (S.clips.start_seconds[each] <= seconds + 0.001) row = each;
  return row;
}

/* ---------- previews and cards ---------- */

/** Loads the strip of a card when it comes into view, so that a library of thousands costs what is visible. */
const stripWatch = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    stripWatch.unobserve(entry.target);
    loadStrip(entry.target);
  }
}, { rootMargin: "200px" });

function loadStrip(box) {
  const picture = new Image();
  picture.onload = () => { box.style.backgroundImage = `url("${picture.src}")`; box.classList.remove("waiting"); };
  picture.onerror = () => { box.classList.add("none"); box.textContent = "no picture"; };
  picture.src = box.dataset.source;
}

function strip(id, moments, missing = false) {
  const box = el("span", { className: "strip waiting" });
  if (missing) { box.classList.add("none"); box.textContent = "the video is missing"; return box; }
  box.dataset.source = `/api/videos/${id}/strip.jpg?` + moments.map((at) => `at=${at.toFixed(2)}`).join("&");
  stripWatch.observe(box);
  return box;
}

/** A card of `item`: {video, row (of a clip, or null), score, percentile}. */
function card(item) {
  const { video, row } = item, isClip = row !== null;
  const rows = isClip ? [row] : rowsOf(video);
  const start = isClip ? S.clips.start_seconds[row] : 0;
  const moments = isClip ? [start] : [0.05, 0.4, 0.75].map((share) => share * video.seconds);
  const label = isClip ? clipLabel(row) : video.label;
  const guess = isClip ? clipGuess(row) : item.guess || "";
  const facts = el("span", { className: "facts" });
  facts.append(el("span", { textContent: isClip ? `${moment(start)}` : `${time(video.seconds)} · ${count(video.n_clips, "clip")}` }));
  if (label) facts.append(el("b", {}, el("span", { className: "dot", dot: style(classNumber(label)).colour }), label));
  if (guess && guess !== label) {
    const sure = isClip ? clipConfidence(row) : item.confidence;
    facts.append(el("span", { title: "predicted" }, el("span", { className: "dot", dot: style(classNumber(guess)).colour }), `${guess}? ${percent(sure)}`));
  }
  if (item.score !== undefined && item.score !== null) {
    const place = item.percentile === null || item.percentile === undefined ? "" : ` · more alike than ${item.percentile.toFixed(0)}% of pairs`;
    facts.append(el("span", { textContent: `score ${item.score.toFixed(2)}`, title: `score ${item.score.toFixed(3)}${place}` }));
  }
  const tick = el("input", { type: "checkbox", checked: rows.every((each) => S.selection.has(each)), "aria-label": `Select ${video.name}${isClip ? " at " + moment(start) : ""}` });
  tick.addEventListener("change", () => select(rows, tick.checked));
  const node = el("li", { className: "card" + (tick.checked ? " selected" : "") },
    el("button", { type: "button", title: video.name, onclick: () => play(video.id, isClip ? start : 0) },
      strip(video.id, moments, video.missing),
      el("span", { className: "text" }, el("span", { className: "name" }, ...nameNodes(isClip ? video.name.split("/").pop() : video.name)), facts)),
    el("label", { className: "tick" }, tick));
  node.rows = rows;
  return node;
}

/** A list of cards that grows while its end is in view. */
class Grid {
  constructor(list, end) {
    this.list = list; this.items = []; this.shown = 0;
    if (end) new IntersectionObserver((entries) => { if (entries.some((e) => e.isIntersecting)) this.more(); }, { rootMargin: "600px" }).observe(end);
    else list.addEventListener("scroll", () => this.more());
    this.end = end;
  }
  show(items) { this.items = items; this.shown = 0; this.list.replaceChildren(); this.more(); }
  more() {
    const next = this.items.slice(this.shown, this.shown + PAGE);
    this.list.append(...next.map(card));
    this.shown += next.length;
    const left = this.items.length - this.shown;
    this.button?.remove();
    if (left > 0) {
      this.button = el("button", { type: "button", textContent: `Show ${count(Math.min(left, PAGE), "more card")}`, onclick: () => this.more() });
      this.list.after(this.button);
    }
    if (this.end && left > 0 && next.length && this.end.getBoundingClientRect().top < innerHeight + 600 && this.end.offsetParent) setTimeout(() => this.more(), 50);
  }
}

/** Mark the cards of selected clips anywhere on the page. */
function markSelected() {
  for (const node of document.querySelectorAll(".card")) {
    const on = node.rows.every((row) => S.selection.has(row));
    node.classList.toggle("selected", on);
    node.querySelector(".tick input").checked = on;
  }
  const n = S.selection.size;
  $("label-bar").hidden = n === 0;
  $("label-bar-count").textContent = `${count(n, "clip")} selected`;
  map.invalidate();
}

function select(rows, on) {
  for (const row of rows) on ? S.selection.add(row) : S.selection.delete(row);
  selectionChanged();
}
function selectOnly(rows) { S.selection = new Set(rows); selectionChanged(); }
function selectionChanged() {
  markSelected();
  showMapSelection();
  if (S.bySelection) { if (!S.selection.size) S.bySelection = false; showLibrary(); }
}

/* ---------- library ---------- */

let libraryGrid, mapGrid, labelGrid, neighbourGrid;

function maxDuration() { return Math.max(1, ...S.videos.map((video) => video.seconds)); }
/** Sliders of durations are logarithmic: collections hold clips of seconds beside films. */
function duration(slider) { return slider.value >= 100 ? maxDuration() : slider.value <= 0 ? 0 : Math.expm1(Math.log1p(maxDuration()) * slider.value / 100); }

/** The best prediction of a video: the class with the largest mean confidence over its clips. */
function videoGuess(video) {
  if (!S.predictions || !S.predictions.best.length) return {};
  const sums = new Map();
  for (const row of rowsOf(video)) sums.set(S.predictions.best[row], (sums.get(S.predictions.best[row]) || 0) + S.predictions.confidence[row]);
  const [best, sum] = [...sums].sort((a, b) => b[1] - a[1])[0];
  return { guess: S.predictions.classes[best], confidence: sum / video.n_clips };
}

function libraryItems() {
  const words = $("search").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const low = duration($("duration-min")), high = duration($("duration-max")), least = $("score-min").value / 100;
  const wanted = $("class-filter").value;
  let items = S.results ? S.results.items : S.videos.map((video) => ({ video, row: null, ...videoGuess(video) }));
  items = items.filter(({ video, row, score, guess, confidence }) => {
    const label = row === null ? video.label : clipLabel(row), predicted = row === null ? guess || "" : clipGuess(row);
    const text = `${video.name} ${label} ${predicted}`.toLowerCase();
    const value = S.results ? score : confidence;
    return words.every((word) => text.includes(word)) && video.seconds >= low - 1e-6 && video.seconds <= high + 1e-6
      && (least === 0 || (value !== undefined && value >= least))
      && (!wanted || (wanted === "\u0000" ? !label : label === wanted || (!label && predicted === wanted)))
      && (!S.bySelection || (row === null ? rowsOf(video).some((each) => S.selection.has(each)) : S.selection.has(row)));
  });
  const order = $("sort").value, value = (item) => (S.results ? item.score : item.confidence) ?? -1;
  if (order === "longest") items.sort((a, b) => b.video.seconds - a.video.seconds);
  else if (order === "shortest") items.sort((a, b) => a.video.seconds - b.video.seconds);
  else if (order === "score") items.sort((a, b) => value(b) - value(a));
  else if (!S.results) items.sort((a, b) => a.video.name.localeCompare(b.video.name, "en", { numeric: true }));
  return items;
}

function showLibrary() {
  if (!S.clips) return;
  $("duration-min-text").textContent = time(duration($("duration-min")));
  $("duration-max-text").textContent = time(duration($("duration-max")));
  $("score-name").textContent = S.results ? "Score" : "Confidence";
  $("score-min-text").textContent = ($("score-min").value / 100).toFixed(2);
  const items = libraryItems(), all = S.results ? S.results.items.length : S.videos.length;
  const noun = S.results ? (S.results.kind === "videos" ? "similar video" : "similar clip") : "video";
  $("library-count").textContent = items.length === all ? count(all, noun) : `${items.length.toLocaleString("en")} of ${count(all, noun)}`;
  const chips = [];
  if (S.results) chips.push(el("button", { type: "button", textContent: `${S.results.title} ✕`, onclick: () => { S.results = null; S.like = []; S.unlike = []; showLibrary(); } }));
  if (S.bySelection) chips.push(el("button", { type: "button", textContent: `selection: ${count(S.selection.size, "clip")} ✕`, onclick: () => { S.bySelection = false; showLibrary(); } }));
  $("library-chips").replaceChildren(...chips);
  libraryGrid.show(items);
  const empty = $("library-empty");
  empty.hidden = items.length > 0;
  empty.replaceChildren(S.videos.length
    ? "Nothing fits these filters. Reset them to see every video."
    : el("span", {}, "The index is empty. Add features to it with ", el("code", { textContent: "c3dvideo index FEATURES --db DB" }), "; this page notices."));
}

async function showSimilar(kind, like, unlike, title) {
  await attempt(async () => {
    const found = await post("/search", { like, unlike, top: 120, kind });
    S.results = { kind, title, items: toItems(found.results, kind) };
    S.like = like; S.unlike = unlike;
    $("sort").value = "score";
    go("library");
    showLibrary();
  });
}

function toItems(results, kind) {
  return results.filter((found) => S.rowOf.has(found.id)).map((found) => {
    const video = S.videos[S.rowOf.get(found.id)];
    return { video, row: kind === "videos" ? null : rowAt(video, found.start_seconds), score: found.score, percentile: found.percentile };
  });
}

/* ---------- map ---------- */

/** The canvas with all clips. Few points are drawn as shapes; many are written into an image, which takes milliseconds. */
const map = {
  canvas: null, x: [], y: [], n: 0, groups: [], groupOf: new Int32Array(0), off: new Set(), only: null,
  zoom: 1, left: 0, top: 0, lasso: null, tool: "pan", hovered: -1, current: -1, waiting: false, pointers: new Map(), bins: null,

  start() {
    this.canvas = $("map");
    this.context = this.canvas.getContext("2d", { alpha: false });
    new ResizeObserver(() => this.resize()).observe($("map-box"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.colours(); this.invalidate(); });
    this.colours();
    this.listen();
  },
  colours() {
    const css = getComputedStyle(document.documentElement);
    this.ground = css.getPropertyValue("--card").trim(); this.ink = css.getPropertyValue("--ink").trim(); this.accent = css.getPropertyValue("--accent").trim();
  },
  resize() {
    const ratio = Math.min(devicePixelRatio || 1, 2), box = $("map-box");
    const width = Math.round(box.clientWidth * ratio), height = Math.round(box.clientHeight * ratio);
    if (!width || !height) return;
    if (!this.canvas.width || this.ratio === undefined) this.fresh = true;
    const dx = (width - this.canvas.width) / 2, dy = (height - this.canvas.height) / 2;
    this.canvas.width = width; this.canvas.height = height; this.ratio = ratio; this.image = null;
    if (this.fresh) { this.fresh = false; this.whole(); } else { this.left += dx; this.top += dy; }
    this.hover(-1);
    this.draw();  // at once: a canvas of another size is black until it is drawn
  },
  get scale() { return this.zoom * Math.min(this.canvas.width, this.canvas.height) * 0.47; },
  whole() { this.zoom = 1; this.left = this.canvas.width / 2; this.top = this.canvas.height / 2; this.invalidate(); },
  zoomBy(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const before = this.zoom;
    this.zoom = Math.min(400, Math.max(0.5, this.zoom * factor));
    const real = this.zoom / before;
    this.left = x - (x - this.left) * real; this.top = y - (y - this.top) * real;
    this.invalidate();
  },
  pan(dx, dy) { this.left += dx; this.top += dy; this.invalidate(); },

  setPlaces(x, y) {
    this.x = Float32Array.from(x); this.y = Float32Array.from(y); this.n = x.length; this.hovered = -1;
    this.makeBins(); this.whole();
  },
  /** A counting sort of the points into 128 x 128 cells, so that the nearest one is found without looking at all. */
  makeBins() {
    const side = 128, starts = new Int32Array(side * side + 1), cell = new Int32Array(this.n), order = new Int32Array(this.n);
    const at = (v) => Math.min(side - 1, Math.max(0, Math.floor((v + 1) / 2 * side)));
    for (let i = 0; i < this.n; i++) { cell[i] = at(this.y[i]) * side + at(this.x[i]); starts[cell[i] + 1]++; }
    for (let i = 0; i < side * side; i++) starts[i + 1] += starts[i];
    const next = starts.slice();
    for (let i = 0; i < this.n; i++) order[next[cell[i]]++] = i;
    this.bins = { side, starts, order, at };
  },
  nearest(px, py, radius) {
    if (!this.n || !this.bins) return -1;
    const { side, starts, order, at } = this.bins, s = this.scale;
    const x = (px - this.left) / s, y = (py - this.top) / s, r = radius / s;
    let best = -1, least = r * r;
    for (let row = at(y - r); row <= at(y + r); row++) for (let column = at(x - r); column <= at(x + r); column++) {
      for (let k = starts[row * side + column]; k < starts[row * side + column + 1]; k++) {
        const i = order[k], d = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (d < least && this.isOn(i)) { least = d; best = i; }
      }
    }
    return best;
  },
  isOn(i) { return this.only === null || this.groupOf[i] === this.only; },

  invalidate() {
    if (this.waiting || !this.canvas || S.view !== "map") return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  },
  draw() {
    const started = performance.now(), c = this.context, { width, height } = this.canvas;
    if (!width) return;
    c.fillStyle = this.ground; c.fillRect(0, 0, width, height);
    if (this.n > FEW_POINTS) this.drawMany(); else this.drawFew();
    this.drawMarks();
    performance.measure("map-frame", { start: started, end: performance.now() });
    if (performance.getEntriesByName("map-frame").length > 500) performance.clearMeasures("map-frame");
  },
  drawFew() {
    const c = this.context, s = this.scale, radius = this.ratio * Math.min(9, 3.2 + 0.6 * Math.log2(1 + this.zoom) + (this.n < 800 ? 1.4 : 0));
    const paths = this.groups.map(() => [new Path2D(), new Path2D()]);
    for (let i = 0; i < this.n; i++) {
      const px = this.left + s * this.x[i], py = this.top + s * this.y[i];
      if (px < -20 || py < -20 || px > this.canvas.width + 20 || py > this.canvas.height + 20) continue;
      const faint = !this.isOn(i) || (S.selection.size > 0 && !S.selection.has(i));
      shape(paths[this.groupOf[i]][faint ? 0 : 1], this.groups[this.groupOf[i]].shape, px, py, radius);
    }
    for (const [strong, alpha] of [[0, 0.18], [1, 0.88]]) {
      c.globalAlpha = alpha;
      this.groups.forEach((group, g) => { c.fillStyle = group.colour; c.fill(paths[g][strong]); });
    }
    c.globalAlpha = 1;
  },
  /** Squares of pixels straight into an image: 50,000 points in a few milliseconds, whatever the graphics card. */
  drawMany() {
    const c = this.context, { width, height } = this.canvas, s = this.scale;
    if (!this.image) { this.image = c.createImageData(width, height); this.pixels = new Uint32Array(this.image.data.buffer); }
    this.pixels.fill(pack(this.ground, this.ground, 1));
    const side = Math.max(2, Math.min(7, Math.round(this.ratio * (1.6 + 0.7 * Math.log2(1 + this.zoom))))), half = side >> 1;
    const bright = this.groups.map((group) => pack(group.colour, this.ground, 0.9)), dim = this.groups.map((group) => pack(group.colour, this.ground, 0.22));
    const selecting = S.selection.size > 0;
    for (const strong of selecting || this.only !== null ? [false, true] : [true]) {
      for (let i = 0; i < this.n; i++) {
        const on = this.isOn(i) && (!selecting || S.selection.has(i));
        if (on !== strong) continue;
        const px = Math.round(this.left + s * this.x[i]) - half, py = Math.round(this.top + s * this.y[i]) - half;
        if (px < 0 || py < 0 || px + side >= width || py + side >= height) continue;
        const colour = (on ? bright : dim)[this.groupOf[i]];
        for (let row = py * width + px, end = row + side * width; row < end; row += width) this.pixels.fill(colour, row, row + side);
      }
    }
    c.putImageData(this.image, 0, 0);
  },
  drawMarks() {
    const c = this.context, s = this.scale;
    for (const [i, colour] of [[this.current, this.accent], [this.hovered, this.ink]]) {
      if (i < 0 || i >= this.n) continue;
      c.beginPath(); c.arc(this.left + s * this.x[i], this.top + s * this.y[i], 9 * this.ratio, 0, 7);
      c.lineWidth = 2.5 * this.ratio; c.strokeStyle = colour; c.stroke();
    }
    if (this.lasso) {
      c.beginPath(); this.lasso.forEach(([x, y], k) => (k ? c.lineTo(x, y) : c.moveTo(x, y))); c.closePath();
      c.fillStyle = this.accent; c.globalAlpha = 0.12; c.fill(); c.globalAlpha = 1;
      c.strokeStyle = this.accent; c.lineWidth = 1.5 * this.ratio; c.stroke();
    }
  },
  inside(polygon) {
    const s = this.scale, points = polygon.map(([x, y]) => [(x - this.left) / s, (y - this.top) / s]);
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)], found = [];
    for (let i = 0; i < this.n; i++) {
      const x = this.x[i], y = this.y[i];
      if (x < x0 || x > x1 || y < y0 || y > y1 || !this.isOn(i)) continue;
      let odd = false;
      for (let a = 0, b = points.length - 1; a < points.length; b = a++) {
        const [ax, ay] = points[a], [bx, by] = points[b];
        if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
      }
      if (odd) found.push(i);
    }
    return found;
  },
  visible() {
    const s = this.scale, found = [];
    for (let i = 0; i < this.n; i++) {
      const px = this.left + s * this.x[i], py = this.top + s * this.y[i];
      if (px >= 0 && py >= 0 && px <= this.canvas.width && py <= this.canvas.height && this.isOn(i)) found.push(i);
    }
    return found;
  },

  listen() {
    const place = (event) => { const box = this.canvas.getBoundingClientRect(); return [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio]; };
    const canvas = this.canvas;
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), ...place(event)); }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      const at = place(event);
      this.pointers.set(event.pointerId, at); this.down = at; this.moved = false;
      if (this.pointers.size === 1 && (this.tool === "lasso" || event.shiftKey)) this.lasso = [at];
      if (this.pointers.size === 2) { this.lasso = null; this.moved = true; }
    });
    canvas.addEventListener("pointermove", (event) => {
      const at = place(event), before = this.pointers.get(event.pointerId);
      if (!before) { this.hover(this.nearest(...at, 14 * this.ratio), event); return; }
      if (this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
        const far = Math.hypot(at[0] - other[0], at[1] - other[1]), was = Math.hypot(before[0] - other[0], before[1] - other[1]);
        this.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
        if (was > 0) this.zoomBy(far / was, (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
      } else if (this.lasso) { this.lasso.push(at); this.invalidate(); } else this.pan(at[0] - before[0], at[1] - before[1]);
      if (Math.hypot(at[0] - this.down[0], at[1] - this.down[1]) > 5 * this.ratio) { this.moved = true; this.hover(-1); }
      this.pointers.set(event.pointerId, at);
    });
    const up = (event) => {
      if (!this.pointers.delete(event.pointerId)) return;
      const lasso = this.lasso;
      this.lasso = null;
      if (event.type === "pointerup" && !this.moved) { const i = this.nearest(...place(event), 14 * this.ratio); if (i >= 0) this.choose(i); }
      else if (lasso && lasso.length > 2) { selectOnly(this.inside(lasso)); if (!S.selection.size) news("There is no point inside the lasso."); }
      this.invalidate();
    };
    canvas.addEventListener("pointerup", up); canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => this.hover(-1));
    canvas.addEventListener("keydown", (event) => {
      const step = 60 * this.ratio, keys = { ArrowLeft: () => this.pan(step, 0), ArrowRight: () => this.pan(-step, 0), ArrowUp: () => this.pan(0, step), ArrowDown: () => this.pan(0, -step),
        "+": () => this.zoomBy(1.4), "=": () => this.zoomBy(1.4), "-": () => this.zoomBy(1 / 1.4), 0: () => this.whole(),
        n: () => this.walk(1), p: () => this.walk(-1), Enter: () => this.hovered >= 0 && this.choose(this.hovered), s: () => selectOnly(this.visible()) };
      if (keys[event.key] && !event.ctrlKey && !event.metaKey) { event.preventDefault(); event.stopPropagation(); keys[event.key](); }
    });
  },
  /** The next point for people who use the keyboard, kept in view. */
  walk(step) {
    if (!this.n) return;
    let i = this.hovered;
    do i = (i + step + this.n) % this.n; while (!this.isOn(i) && i !== this.hovered);
    const s = this.scale, px = this.left + s * this.x[i], py = this.top + s * this.y[i], edge = 40 * this.ratio;
    if (px < edge || py < edge || px > this.canvas.width - edge || py > this.canvas.height - edge) this.pan(this.canvas.width / 2 - px, this.canvas.height / 2 - py);
    this.hover(i);
  },
  choose(i) { this.current = i; this.hover(-1); play(clipVideo(i).id, S.clips.start_seconds[i]); },
  hover(i) {
    if (i === this.hovered) return;
    this.hovered = i; this.invalidate();
    const box = $("map-hover");
    box.hidden = i < 0;
    if (i < 0) return;
    const video = clipVideo(i), start = S.clips.start_seconds[i], s = this.scale, label = clipLabel(i) || clipGuess(i);
    box.replaceChildren(strip(video.id, [start], video.missing),
      el("p", {}, el("b", { textContent: moment(start) }), " ", ...nameNodes(video.name), label ? el("span", {}, " · ", el("span", { className: "dot", dot: style(classNumber(label)).colour }), label) : ""));
    const px = (this.left + s * this.x[i]) / this.ratio, py = (this.top + s * this.y[i]) / this.ratio, area = $("map-box");
    box.style.left = `${Math.max(4, px + 200 > area.clientWidth ? px - 192 : px + 16)}px`;
    box.style.top = `${Math.max(4, Math.min(py - 60, area.clientHeight - 210))}px`;
  },
};

/** A colour on a ground as one little-endian RGBA number. */
function pack(colour, ground, share) {
  const [r, g, b] = [colour, ground].map(rgb).reduce((a, back) => a.map((v, k) => Math.round(v * share + back[k] * (1 - share))));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}
function rgb(colour) { const n = parseInt(colour.slice(1), 16); return [n >> 16, (n >> 8) & 255, n & 255]; }
function shape(path, kind, x, y, r) {
  const line = (...points) => { points.forEach(([dx, dy], k) => (k ? path.lineTo(x + r * dx, y + r * dy) : path.moveTo(x + r * dx, y + r * dy))); path.closePath(); };
  if (kind === "o") { path.moveTo(x + r, y); path.arc(x, y, r, 0, 7); }
  else if (kind === "s") line([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]);
  else if (kind === "^") line([0, -1.15], [1.1, 0.85], [-1.1, 0.85]);
  else if (kind === "v") line([0, 1.15], [1.1, -0.85], [-1.1, -0.85]);
  else if (kind === "d") line([0, -1.25], [1.05, 0], [0, 1.25], [-1.05, 0]);
  else if (kind === "+") line([-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4], [0.4, 1.1], [-0.4, 1.1], [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]);
  else line([-1, -0.5], [-0.5, -1], [0, -0.5], [0.5, -1], [1, -0.5], [0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5], [-0.5, 1], [-1, 0.5], [-0.5, 0]);
}

let mapTimer = 0;
async function showMap() {
  clearTimeout(mapTimer);
  if (!S.clips || S.view !== "map") return;
  const method = $("map-method").value, empty = $("map-empty");
  if (S.clips.video.length === 0) { empty.hidden = false; empty.textContent = "The index is empty."; return; }
  const found = await attempt(() => api(`/map?method=${encodeURIComponent(method)}`));
  if (!found || S.view !== "map" || method !== $("map-method").value) return;
  empty.hidden = true;
  $("map-status").textContent = "";
  if (found.state === "ready") {
    S.mapKey = `${found.version} ${method}`;
    if (!S.clips.cluster.length) { S.clips = await api("/clips"); }
    if (map.key !== S.mapKey && found.x.length === S.clips.video.length) { map.key = S.mapKey; map.setPlaces(found.x, found.y); }
    colourMap();  // in the same task, so that no frame is drawn of places without colours
    return;
  }
  if (found.state === "failed") { empty.hidden = false; empty.textContent = found.message.replace(/^./, (c) => c.toUpperCase()) + "."; return; }
  const name = { pca: "The map", tsne: "t-SNE", umap: "UMAP" }[method];
  $("map-status").textContent = `${name} is being computed…`;
  if (method !== "pca" && !map.n) { // something to look at meanwhile
    const quick = await attempt(() => api("/map?method=pca"));
    if (quick && quick.state === "ready") { map.key = ""; map.setPlaces(quick.x, quick.y); colourMap(); }
  }
  mapTimer = setTimeout(showMap, 1200);
}

function colourMap() {
  const by = $("map-colour").value, n = S.clips.video.length;
  const names = by === "cluster" ? Array.from({ length: Math.max(0, ...S.clips.cluster) + 1 }, (_, k) => `cluster ${k + 1}`) : S.classes;
  const of = by === "cluster" ? (i) => S.clips.cluster[i] ?? -1 : by === "predicted" ? (i) => classNumber(clipGuess(i)) : (i) => classNumber(clipLabel(i));
  map.groups = [...names.map((name, k) => ({ name, ...style(k), n: 0 })), { name: by === "predicted" ? "no prediction" : "no label", ...style(-1), n: 0 }];
  map.groupOf = Int32Array.from({ length: n }, (_, i) => { const g = of(i); return g < 0 ? names.length : g; });
  for (const g of map.groupOf) map.groups[g].n++;
  if (map.only !== null && !map.groups[map.only]?.n) map.only = null;
  $("legend").replaceChildren(...map.groups.map((group, g) => {
    if (!group.n) return null;
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    icon.setAttribute("viewBox", "-1.4 -1.4 2.8 2.8"); icon.setAttribute("aria-hidden", "true");
    path.setAttribute("d", OUTLINES[group.shape]); path.setAttribute("fill", group.colour); icon.append(path);
    return el("li", {}, el("button", { type: "button", "aria-pressed": String(map.only === g), title: "Show only these",
      onclick: () => { map.only = map.only === g ? null : g; colourMap(); } }, icon, group.name, el("span", { className: "n", textContent: group.n.toLocaleString("en") })));
  }).filter(Boolean));
  map.invalidate();
}
const OUTLINES = { o: "M1,0A1,1 0 1 1 -1,0A1,1 0 1 1 1,0Z", s: "M-.9,-.9H.9V.9H-.9Z", "^": "M0,-1.15L1.1,.85H-1.1Z", v: "M0,1.15L1.1,-.85H-1.1Z", d: "M0,-1.25L1.05,0L0,1.25L-1.05,0Z",
  "+": "M-.4,-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z", x: "M-1,-.5L-.5,-1L0,-.5L.5,-1L1,-.5L.5,0L1,.5L.5,1L0,.5L-.5,1L-1,.5L-.5,0Z" };

function showMapSelection() {
  if (S.view !== "map") return;
  const rows = [...S.selection].sort((a, b) => a - b);
  $("map-selection-title").textContent = rows.length ? `Selected clips (${rows.length.toLocaleString("en")})` : "Selected clips";
  $("map-selection-empty").hidden = rows.length > 0;
  mapGrid.show(rows.map((row) => ({ video: clipVideo(row), row })));
}

/* ---------- player and converted video ---------- */

/** Plays converted pieces of a few seconds through Media Source Extensions, the wanted second first. */
class Pieces {
  constructor(video, id, playback, fail) {
    Object.assign(this, { video, id, playback, fail, have: new Set(), closed: false, abort: null });
    const Source = window.ManagedMediaSource || window.MediaSource;
    if (!Source) { fail("this browser cannot play converted video"); return; }
    const types = { mp4: 'video/mp4; codecs="avc1.42E01E"', webm: 'video/webm; codecs="vp8"' };
    this.format = Source.isTypeSupported(types.mp4) ? "mp4" : "webm";
    this.last = Math.max(1, Math.ceil(playback.seconds / playback.piece_seconds - 0.001));
    this.source = new Source();
    video.disableRemotePlayback = true; // Safari's condition
    video.src = this.address = URL.createObjectURL(this.source);
    this.source.addEventListener("sourceopen", () => {
      if (this.buffer || this.closed) return;
      this.source.duration = playback.seconds;
      this.buffer = this.source.addSourceBuffer(types[this.format]);
      this.pump();
    });
    this.onSeek = () => { if (this.loading !== undefined && this.loading !== this.next()) this.abort?.abort(); this.pump(); };
    this.onTime = () => this.pump();
    video.addEventListener("seeking", this.onSeek); video.addEventListener("timeupdate", this.onTime);
  }
  /** The first piece from the present second on that is not there; a few ahead are enough. */
  next() {
    const now = Math.min(this.last - 1, Math.floor((this.video.currentTime + 0.01) / this.playback.piece_seconds));
    for (let n = now; n < Math.min(this.last, now + 4); n++) if (!this.have.has(n)) return n;
    return undefined;
  }
  async pump() {
    if (this.busy || this.closed || !this.buffer) return;
    this.busy = true;
    try {
      for (let n = this.next(); n !== undefined && !this.closed; n = this.next()) {
        this.loading = n; this.abort = new AbortController();
        let bytes = null;
        try {
          const answer = await fetch(`/api/videos/${this.id}/pieces/${n}.${this.format}`, { signal: this.abort.signal });
          if (!answer.ok) throw new ServerError((await answer.json()).detail);
          if (answer.status !== 204) bytes = await answer.arrayBuffer();
        } catch (error) {
          if (error.name === "AbortError") continue; // a seek: begin with the piece that is wanted now
          throw error;
        }
        this.loading = undefined;
        if (this.closed) return;
        if (bytes) await this.append(bytes, n * this.playback.piece_seconds);
        this.have.add(n);
        if (!bytes && !this.closed && n * this.playback.piece_seconds <= this.video.currentTime + 0.01 && n + 1 < this.last) this.video.currentTime = (n + 1) * this.playback.piece_seconds;
      }
      const at = this.video.currentTime / this.playback.piece_seconds;
      if (!this.closed && this.source.readyState === "open" && at + 4 >= this.last && this.have.has(this.last - 1)) this.source.endOfStream();
    } catch (error) { if (!this.closed) this.fail(error.message); } finally { this.busy = false; }
  }
  async append(bytes, offset) {
    const done = () => new Promise((resolve, reject) => { this.buffer.onupdateend = resolve; this.buffer.onerror = () => reject(new Error("the browser cannot decode the converted video")); });
    for (let tries = 0; ; tries++) {
      try {
        this.buffer.timestampOffset = offset;
        const wait = done();
        this.buffer.appendBuffer(bytes);
        return await wait;
      } catch (error) {
        if (error.name !== "QuotaExceededError" || tries > 2) throw error;
        const size = this.playback.piece_seconds, keep = this.video.currentTime - size; // forget what lies behind
        const wait = done();
        this.buffer.remove(0, Math.max(size, keep));
        await wait;
        for (const n of this.have) if ((n + 1) * size <= keep) this.have.delete(n);
      }
    }
  }
  close() {
    this.closed = true; this.abort?.abort();
    this.video.removeEventListener("seeking", this.onSeek); this.video.removeEventListener("timeupdate", this.onTime);
    if (this.address) URL.revokeObjectURL(this.address);
  }
}

/** Show a video in an element, as a file or in pieces, from a second on. `fail` gets the reason when neither works. */
function attach(video, id, playback, seconds, fail) {
  video.pieces?.close(); video.pieces = null; video.onerror = null;
  const begin = () => { video.currentTime = seconds; };
  const convert = () => { video.pieces = new Pieces(video, id, playback, fail); video.addEventListener("loadedmetadata", begin, { once: true }); };
  if (playback.type && video.canPlayType(playback.type)) {
    video.src = `/api/videos/${id}/file`;
    video.addEventListener("loadedmetadata", begin, { once: true });
    video.onerror = () => { video.onerror = null; convert(); }; // the file is not what it states: convert it
  } else convert();
}
function detach(video) { video.pieces?.close(); video.pieces = null; video.onerror = null; video.removeAttribute("src"); video.load(); }

const P = { id: null, detail: null, opener: null };

async function play(id, seconds = 0, { autoplay = true } = {}) {
  const panel = $("player"), video = $("video");
  if (panel.hidden) P.opener = document.activeElement;
  panel.hidden = false;
  if (P.id === id && P.detail?.playback) { video.currentTime = seconds; if (autoplay) video.play().catch(() => {}); showMoment(seconds); listNeighbours(); return; }
  P.id = id; P.detail = null;
  detach(video);
  $("player-title").textContent = "…"; $("player-problem").hidden = true; $("player-note").textContent = "";
  $("explanation").hidden = true; $("why").hidden = true;
  $("neighbours").replaceChildren(); $("timeline-legend").replaceChildren();
  const detail = await attempt(() => api(`/videos/${id}`));
  if (P.id !== id) return;
  if (!detail) { closePlayer(); return; }
  P.detail = detail; P.seconds = seconds;
  $("player-title").replaceChildren(...nameNodes(detail.name));
  $("player-title").focus({ preventScroll: true });
  const isIndexed = S.rowOf.has(id);
  for (const button of ["select-clip", "select-video"]) $(button).hidden = !isIndexed;
  $("less-like").hidden = !(S.results && isIndexed);
  $("why").hidden = !detail.playback;
  if (detail.playback) {
    $("player-note").textContent = detail.playback.type ? "" : `converted from ${detail.playback.codec} as you watch, without sound`;
    attach(video, id, detail.playback, seconds, (reason) => problem(reason));
    if (autoplay) video.play().catch(() => {});
  } else problem(detail.missing ? `${detail.problem}. Its features are still searched and mapped.` : detail.problem);
  drawTimeline(); showMoment(seconds); listNeighbours();
}
function problem(text) { const box = $("player-problem"); box.hidden = false; box.textContent = text.replace(/^./, (c) => c.toUpperCase()); $("video").hidden = true; }
function closePlayer() {
  $("player").hidden = true; detach($("video")); P.id = null; P.detail = null;
  if (location.hash.startsWith("#/video")) history.replaceState(null, "", `#/${S.view}`);
  P.opener?.isConnected && P.opener.focus(); P.opener = null;
}
const now = () => (P.detail?.playback && $("video").readyState > 0 ? $("video").currentTime : P.seconds || 0);
function clipNow(seconds = now()) {
  let found = 0;
  P.detail.clips.forEach((clip, k) => { if (clip.start_seconds <= seconds + 0.001) found = k; });
  return found;
}

function classColour(name) { const k = classNumber(name); return style(k >= 0 ? k : P.detail.timeline.classes.indexOf(name)).colour; }
/** The classes that matter most somewhere in the video. */
function topClasses() {
  const { classes, shares } = P.detail.timeline;
  const peak = classes.map((_, k) => Math.max(...shares.map((row) => row[k])) + shares.reduce((sum, row) => sum + row[k], 0) / shares.length);
  return classes.map((_, k) => k).sort((a, b) => peak[b] - peak[a]).slice(0, 4);
}
function drawTimeline() {
  const canvas = $("timeline"), detail = P.detail, ratio = Math.min(devicePixelRatio || 1, 2);
  if (!detail) return;
  const length = detail.playback?.seconds || Math.max(0.1, ...detail.clips.map((clip) => clip.end_seconds));
  canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
  const c = canvas.getContext("2d"), { width, height } = canvas, css = getComputedStyle(document.documentElement);
  c.fillStyle = css.getPropertyValue("--ground"); c.fillRect(0, 0, width, height);
  const rows = detail.timeline && detail.timeline.shares.length ? topClasses() : [];
  const band = height / Math.max(1, rows.length);
  detail.clips.forEach((clip, k) => {
    const left = clip.start_seconds / length * width, right = Math.max(left + 1, Math.min(clip.end_seconds, detail.clips[k + 1]?.start_seconds ?? clip.end_seconds) / length * width - ratio);
    rows.forEach((number, r) => {
      c.fillStyle = classColour(detail.timeline.classes[number]);
      const share = detail.timeline.shares[k][number], tall = share * (band - 3 * ratio);
      c.fillRect(left, (r + 1) * band - tall - ratio, right - left, tall);
    });
    if (!rows.length) { c.fillStyle = css.getPropertyValue("--line"); c.fillRect(left, height * 0.3, right - left, height * 0.4); }
  });
  const at = Math.min(1, now() / length) * width;
  c.fillStyle = css.getPropertyValue("--ink"); c.fillRect(at - ratio, 0, 2 * ratio, height);
  canvas.setAttribute("aria-valuemax", length.toFixed(1)); canvas.setAttribute("aria-valuenow", now().toFixed(1));
  canvas.setAttribute("aria-valuetext", `${moment(now())} of ${moment(length)}`);
  P.length = length;
}
function showMoment(seconds) {
  P.seconds = seconds;
  const timeline = P.detail?.timeline;
  if (timeline && timeline.shares.length) {
    const shares = timeline.shares[clipNow(seconds)];
    $("timeline-legend").replaceChildren(...topClasses().map((k) => {
      const bar = el("i"); bar.style.width = percent(shares[k]);
      return el("li", { dot: classColour(timeline.classes[k]) }, bar, el("span", { textContent: timeline.classes[k] }), el("span", { textContent: percent(shares[k]) }));
    }));
  } else $("timeline-legend").replaceChildren();
}

let neighbourAbort = null;
async function listNeighbours(kind = "clips") {
  neighbourAbort?.abort(); neighbourAbort = new AbortController();
  const at = P.detail.clips.length ? P.detail.clips[clipNow(P.seconds)].start_seconds : 0;
  $("neighbours-title").textContent = kind === "videos" ? "Similar videos" : `Clips like ${moment(at)}`;
  $("neighbours-status").textContent = "";
  try {
    const query = kind === "videos" ? "kind=videos" : `at=${at}`;
    const found = await api(`/videos/${P.id}/neighbours?top=12&${query}`, { signal: neighbourAbort.signal });
    neighbourGrid.show(toItems(found.results, kind));
    if (!found.results.length) $("neighbours-status").textContent = "The index holds no other video.";
  } catch (error) { if (error.name !== "AbortError") $("neighbours-status").textContent = error.message; }
}

/** The evidence for the likeliest class of the present clip: its frames, and beside them the places that speak for it. */
async function explainMoment() {
  const clip = clipNow(), at = P.detail.clips[clip]?.start_seconds ?? 0, timeline = P.detail.timeline, box = $("explanation-strip"), id = P.id;
  const label = timeline ? timeline.classes[timeline.shares[clip].indexOf(Math.max(...timeline.shares[clip]))] : "";
  $("explanation").hidden = false;
  $("explanation-text").textContent = "Being computed…";
  box.style.backgroundImage = "";
  await attempt(async () => {
    try {
      const answer = await fetch(`/api/videos/${id}/explanation.jpg?at=${at}&label=${encodeURIComponent(label)}`);
      if (!answer.ok) throw new ServerError((await answer.json()).detail);
      const address = URL.createObjectURL(await answer.blob());
      if (P.id !== id) return;
      box.style.backgroundImage = `url("${address}")`;
      $("explanation-text").textContent = `Bright places speak for ${label || "the network's likeliest class"} at ${moment(at)} (Grad-CAM).`;
    } catch (error) { $("explanation").hidden = true; throw error instanceof ServerError ? error : new ServerError("the server does not answer"); }
  });
}

/* ---------- compare ---------- */

const C = { found: null, cell: [0, 0], size: 12 };
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function ramp(share) {
  const at = Math.max(0, Math.min(0.9999, share)) * 4, k = Math.floor(at), f = at - k;
  return RAMP[k].map((v, j) => Math.round(v + f * (RAMP[k + 1][j] - v)));
}
function named(text) { return S.videos.find((video) => video.name === text.trim()) || null; }

async function compare(a, b) {
  C.found = null;
  $("compare-a").value = a.name; $("compare-b").value = b.name;
  await attempt(async () => {
    const [found, first, second] = await Promise.all([api(`/compare?a=${a.id}&b=${b.id}`), api(`/videos/${a.id}`), api(`/videos/${b.id}`)]);
    C.found = found;
    $("compare-empty").hidden = true; $("compare-body").hidden = false;
    const place = found.percentile === null ? "" : `; more alike than ${found.percentile.toFixed(0)}% of pairs of videos`;
    $("compare-status").textContent = `score ${found.score.toFixed(2)}${place}`;
    for (const [side, detail] of [["a", first], ["b", second]]) {
      const video = $(`video-${side}`), caption = $(`caption-${side}`);
      caption.textContent = detail.name + (detail.playback ? "" : ` — ${detail.problem}`);
      if (detail.playback) attach(video, detail.id, detail.playback, 0, (reason) => { caption.textContent = `${detail.name} — ${reason}`; });
      else detach(video);
    }
    let best = [0, 0];
    found.scores.forEach((row, r) => row.forEach((value, k) => { if (value > found.scores[best[0]][best[1]]) best = [r, k]; }));
    drawMatrix(); pointAt(...best, false);
  });
}
function drawMatrix() {
  const { scores } = C.found, canvas = $("matrix"), ratio = Math.min(devicePixelRatio || 1, 2);
  C.size = Math.max(4, Math.min(40, Math.floor(640 / Math.max(scores.length, scores[0].length))));
  const width = scores[0].length * C.size, height = scores.length * C.size;
  canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const c = canvas.getContext("2d"), values = scores.flat(), low = Math.min(0, ...values), high = Math.max(0.5, ...values);
  c.scale(ratio, ratio);
  scores.forEach((row, r) => row.forEach((value, k) => {
    c.fillStyle = `rgb(${ramp((value - low) / (high - low)).join(",")})`;
    c.fillRect(k * C.size, r * C.size, C.size - (C.size > 8), C.size - (C.size > 8));
  }));
  c.strokeStyle = "#ffffff"; c.lineWidth = 3; c.strokeRect(C.cell[1] * C.size + 1, C.cell[0] * C.size + 1, C.size - 2, C.size - 2);
  c.strokeStyle = "#000000"; c.lineWidth = 1; c.strokeRect(C.cell[1] * C.size + 0.5, C.cell[0] * C.size + 0.5, C.size - 1, C.size - 1);
}
/** Point at a pair of moments; both videos go there. */
function pointAt(row, column, playing = true) {
  const { scores, rows, columns } = C.found;
  C.cell = [Math.max(0, Math.min(scores.length - 1, row)), Math.max(0, Math.min(scores[0].length - 1, column))];
  const [r, k] = C.cell;
  $("compare-cell").textContent = `${moment(rows[r].start_seconds)} and ${moment(columns[k].start_seconds)}: score ${scores[r][k].toFixed(2)}`;
  drawMatrix();
  for (const [side, span] of [["a", rows[r]], ["b", columns[k]]]) {
    const video = $(`video-${side}`);
    if (!video.src) continue;
    const seek = () => { video.currentTime = span.start_seconds; if (playing) video.play().catch(() => {}); };
    video.readyState > 0 ? seek() : video.addEventListener("loadedmetadata", seek, { once: true });
  }
}

/* ---------- labels and classifier ---------- */

async function saveLabels(label) {
  const whole = new Set(), parts = [];
  for (const row of S.selection) {
    const video = clipVideo(row);
    if (whole.has(video.id)) continue;
    if (rowsOf(video).every((each) => S.selection.has(each))) { whole.add(video.id); parts.push({ id: video.id }); }
    else parts.push({ id: video.id, seconds: S.clips.start_seconds[row] });
  }
  const saved = await attempt(() => post("/labels", { parts, label }));
  if (!saved) return;
  S.state.labels_version = saved.labels_version;
  news(label ? `${count(S.selection.size, "clip")} labelled “${label}”, saved in ${S.state.labels_file}.` : `Labels of ${count(S.selection.size, "clip")} removed.`);
  S.selection.clear();
  await loadTables();
}

function labelItems() {
  const show = $("label-show").value, wanted = $("predicted-filter").value, most = $("confidence-max").value / 100;
  let rows = S.clips.video.map((_, row) => row);
  if (S.predictions?.best.length) rows = rows.filter((row) => (!wanted || clipGuess(row) === wanted) && (most >= 1 || clipConfidence(row) <= most));
  if (show === "unlabelled") rows = rows.filter((row) => !clipLabel(row));
  if (show === "disagree") rows = rows.filter((row) => clipLabel(row) && clipGuess(row) && clipLabel(row) !== clipGuess(row));
  if (S.predictions?.best.length && (show === "unsure" || show === "sure")) {
    const sign = show === "unsure" ? 1 : -1;
    rows = rows.filter((row) => show === "sure" || !clipLabel(row)).sort((a, b) => sign * (clipConfidence(a) - clipConfidence(b)));
  }
  return rows.map((row) => ({ video: clipVideo(row), row }));
}
function showLabels() {
  if (!S.clips || S.view !== "label") return;
  $("confidence-max-text").textContent = percent($("confidence-max").value / 100);
  const counts = new Map();
  for (const number of S.clips.label) if (number >= 0) counts.set(S.clips.labels[number], (counts.get(S.clips.labels[number]) || 0) + 1);
  const total = [...counts.values()].reduce((a, b) => a + b, 0);
  $("label-count").textContent = `${total.toLocaleString("en")} of ${count(S.clips.video.length, "clip")} labelled`;
  $("class-list").replaceChildren(...[...counts].sort().map(([name, n]) => el("li", {}, el("span", { className: "dot", dot: style(classNumber(name)).colour }), `${name} `, el("span", { textContent: n.toLocaleString("en") }))));
  const items = labelItems();
  labelGrid.show(items);
  $("label-empty").hidden = items.length > 0;
  $("label-empty").textContent = S.clips.video.length ? "No clip fits. Show all clips to go on." : "The index is empty.";
  showProbe();
}
function showProbe() {
  const probe = S.state.probe, box = $("fit-status");
  $("fit").disabled = probe.state === "fitting";
  $("probe-link").hidden = probe.state !== "ready";
  if (probe.state === "none") box.textContent = "No classifier yet.";
  else if (probe.state === "fitting") box.textContent = "Fitting…";
  else if (probe.state === "failed") box.textContent = `It failed: ${probe.message}.`;
  else {
    const quality = probe.accuracy === null ? "accuracy unknown: label clips of a second video of each class"
      : `accuracy ${percent(probe.accuracy)} on held-out videos (95% interval ${percent(probe.interval[0])} to ${percent(probe.interval[1])}, most frequent class ${percent(probe.chance)})`;
    box.textContent = `${count(probe.classes.length, "class").replace("classs", "classes")}, ${count(probe.n_labelled, "labelled clip")}; ${quality}.${probe.is_outdated ? " Labels have changed since: fit again." : ""}`;
  }
}
async function fit() {
  const probe = await attempt(() => post("/probe", {}));
  if (probe) { S.state.probe = probe; showProbe(); setTimeout(watch, 700); }
}

/* ---------- uploads ---------- */

let uploadTimer = 0;
function sendFile(file) {
  go("upload");
  if (file.size > S.state.max_upload_bytes) { news(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB; the limit is ${(S.state.max_upload_bytes / 1e6).toFixed(0)} MB.`, { bad: true }); return; }
  const bar = el("progress", { max: 1, value: 0, "aria-label": "Uploaded" }), row = el("li", { className: "sending" }, el("span", { className: "name", textContent: file.name }), bar);
  $("uploads").prepend(row);
  const request = new XMLHttpRequest(); // fetch does not report how much has been sent
  request.open("POST", `/api/uploads?name=${encodeURIComponent(file.name.toWellFormed?.() ?? file.name)}`);
  request.setRequestHeader("content-type", "application/octet-stream");
  request.upload.onprogress = (event) => { bar.value = event.loaded / (event.total || 1); };
  request.onloadend = () => {
    row.remove();
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* the connection broke */ }
    if (request.status !== 202) news(`${file.name}: ${answer.detail || "the server does not answer"}.`, { bad: true });
    else P.openUpload = answer.id;
    showUploads();
  };
  request.send(file);
}
async function showUploads() {
  clearTimeout(uploadTimer);
  if (S.view !== "upload") return;
  const list = await attempt(() => api("/uploads"));
  if (!list) return;
  const sending = [...document.querySelectorAll("#uploads .sending")];
  $("uploads").replaceChildren(...sending, ...list.map(uploadRow));
  for (const upload of list) if (upload.state === "done" && P.openUpload === upload.id) { P.openUpload = null; play(upload.id, 0); }
  if (list.some((upload) => upload.state === "receiving" || upload.state === "analysing")) uploadTimer = setTimeout(showUploads, 700);
}
function uploadRow(upload) {
  const row = el("li", {}, el("span", { className: "name", textContent: upload.name }));
  if (upload.state === "done") {
    const top = upload.top.map(([name, share]) => `${name} ${percent(share)}`).slice(0, 3).join(", ");
    row.append(el("span", { textContent: top || "no classifier yet: label some clips to get classes" }));
    if (upload.message) row.append(el("span", { className: "bad", textContent: `read up to a damaged place: ${upload.message}` }));
    row.append(el("button", { type: "button", className: "strong", textContent: "Open", onclick: () => play(upload.id, 0) }));
  } else if (upload.state === "failed") row.append(el("span", { className: "bad", textContent: upload.message }));
  else row.append(el("progress", { "aria-label": "Being analysed" }), el("span", { className: "faint", textContent: "being analysed…" }));
  row.append(el("button", { type: "button", className: "quiet", textContent: "Remove", "aria-label": `Remove ${upload.name}`, onclick: async () => {
    if (P.id === upload.id) closePlayer();
    await attempt(() => api(`/uploads/${upload.id}`, { method: "DELETE" }));
    showUploads();
  } }));
  return row;
}

/* ---------- keyboard, routes and the watch over the server ---------- */

const VIEWS = ["library", "map", "compare", "label", "upload"];
function go(view) { if (location.hash !== `#/${view}`) location.hash = `#/${view}`; else show(view); }
function show(view) {
  S.view = view;
  for (const each of VIEWS) $(`view-${each}`).hidden = each !== view;
  for (const link of document.querySelectorAll(".tabs a")) link.dataset.view === view ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  document.title = `${view[0].toUpperCase()}${view.slice(1)} · c3dvideo`;
  if (view === "map") { map.resize(); showMap(); showMapSelection(); }
  if (view === "library") showLibrary();
  if (view === "label") showLabels();
  if (view === "upload") showUploads();
}
function route() {
  const video = location.hash.match(/^#\/video\/([\w-]+)(?:@([\d.]+))?$/);
  if (video) { if (!VIEWS.some((each) => !$(`view-${each}`).hidden)) show("library"); play(video[1], Number(video[2] || 0)); return; }
  const view = location.hash.slice(2);
  show(VIEWS.includes(view) ? view : "library");
}

/** Read the tables again: after a change of the index, of the labels or of the classifier. */
async function loadTables() {
  const [videos, clips, predictions] = await Promise.all([api("/videos"), api("/clips"), api("/predictions")]);
  if (videos.version !== clips.version || predictions.version !== clips.version) return loadTables(); // it changed in between
  S.videos = videos.videos; S.clips = clips; S.predictions = predictions.best.length ? predictions : null;
  S.rowOf = new Map(S.videos.map((video, row) => [video.id, row]));
  S.classes = [...new Set([...clips.labels, ...predictions.classes])].sort();
  if (S.version !== clips.version) { S.version = clips.version; S.selection.clear(); S.results = null; map.key = ""; }
  const options = S.classes.map((name) => [name, name]);
  fill($("class-filter"), [["", "all"], ["\u0000", "without label"], ...options]);
  fill($("predicted-filter"), [["", "any class"], ...(S.predictions?.classes || []).map((name) => [name, name])]);
  $("label-names").replaceChildren(...S.classes.map((name) => el("option", { value: name })));
  $("video-names").replaceChildren(...S.videos.slice(0, 5000).map((video) => el("option", { value: video.name })));
  if (S.view === "library") showLibrary();
  if (S.view === "label") showLabels();
  if (S.view === "map") { showMap(); showMapSelection(); }
  markSelected();
}

let offline = false, watchTimer = 0;
/** Look every few seconds whether the index, the labels or the classifier have changed. */
async function watch() {
  clearTimeout(watchTimer);
  try {
    const before = S.state, state = await api("/state");
    S.state = state;
    if (offline) { offline = false; news("The server answers again."); }
    if (state.version !== S.version) {
      const was = S.videos.length;
      if (was !== state.n_videos || !S.waiting) news(`The index has changed: ${count(state.n_videos, "video")} now, ${was.toLocaleString("en")} on this page.`, { stay: true, label: "Show them", action: () => attempt(loadTables) });
      S.waiting = true;
    } else S.waiting = false;
    if (state.version === S.version && before && (before.labels_version !== state.labels_version || before.probe.number !== state.probe.number || before.probe.state !== state.probe.state)) await loadTables();
    if (S.view === "label") showProbe();
  } catch (error) {
    if (!offline) news(`${error.message.replace(/^./, (c) => c.toUpperCase())}. Trying again…`, { bad: true, stay: true });
    offline = true;
  }
  const soon = S.state?.probe.state === "fitting";
  watchTimer = setTimeout(watch, document.hidden ? 15000 : soon ? 800 : 4000);
}

function keys(event) {
  const typing = event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
  if (event.key === "Escape") {
    if ($("help").open) return;
    if (typing) event.target.blur();
    else if (!$("player").hidden) closePlayer();
    else if (S.selection.size) { S.selection.clear(); selectionChanged(); }
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = VIEWS[Number(event.key) - 1], on = event.target.closest?.(".card");
  if (event.key === "/") { event.preventDefault(); $("search").focus(); }
  else if (event.key === "?") $("help").showModal();
  else if (event.key === "l" && S.selection.size) { event.preventDefault(); $("label-text").focus(); }
  else if (event.key === "x" && on) { event.preventDefault(); select(on.rows, !on.classList.contains("selected")); }
  else if (number) go(number);
  else if (on && event.key.startsWith("Arrow")) moveFocus(event, on);
}
/** Arrow keys move between cards as the eye sees them. */
function moveFocus(event, from) {
  const cards = [...from.parentElement.children], at = cards.indexOf(from);
  const columns = cards.findIndex((each) => each.offsetTop > cards[0].offsetTop);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -(columns < 0 ? cards.length : columns), ArrowDown: columns < 0 ? cards.length : columns }[event.key];
  const next = cards[at + step];
  if (next) { event.preventDefault(); next.querySelector("button").focus(); }
}

function listen() {
  addEventListener("hashchange", route); document.addEventListener("keydown", keys);
  $("search-form").addEventListener("submit", (event) => { event.preventDefault(); go("library"); showLibrary(); $("library-grid").querySelector("button")?.focus(); });
  let typing = 0;
  $("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { if (S.view !== "library") go("library"); showLibrary(); }, 150); });
  for (const id of ["duration-min", "duration-max", "score-min"]) $(id).addEventListener("input", showLibrary);
  for (const id of ["class-filter", "sort"]) $(id).addEventListener("change", showLibrary);
  $("motion").addEventListener("change", () => { document.body.classList.toggle("still", !$("motion").checked); localStorage.setItem("still", $("motion").checked ? "" : "1"); });
  $("reset-filters").addEventListener("click", () => { $("library-tools").reset(); $("search").value = ""; S.bySelection = false; S.results = null; $("motion").checked = !document.body.classList.contains("still"); showLibrary(); });
  $("help-button").addEventListener("click", () => $("help").showModal());

  $("map-method").addEventListener("change", showMap); $("map-colour").addEventListener("change", colourMap);
  const tool = (name) => { map.tool = name; $("tool-pan").setAttribute("aria-pressed", name === "pan"); $("tool-lasso").setAttribute("aria-pressed", name === "lasso"); $("map-box").classList.toggle("lasso", name === "lasso"); };
  $("tool-pan").addEventListener("click", () => tool("pan")); $("tool-lasso").addEventListener("click", () => tool("lasso"));
  $("zoom-in").addEventListener("click", () => map.zoomBy(1.5)); $("zoom-out").addEventListener("click", () => map.zoomBy(1 / 1.5)); $("zoom-reset").addEventListener("click", () => map.whole());
  $("select-visible").addEventListener("click", () => selectOnly(map.visible()));

  const video = $("video");
  $("player-close").addEventListener("click", closePlayer);
  video.addEventListener("timeupdate", () => { if (P.detail) { drawTimeline(); showMoment(video.currentTime); } });
  video.addEventListener("loadedmetadata", () => { video.hidden = false; drawTimeline(); });
  const seek = (seconds) => { P.seconds = Math.max(0, Math.min(P.length, seconds)); if (P.detail.playback) video.currentTime = P.seconds; drawTimeline(); showMoment(P.seconds); };
  $("timeline").addEventListener("click", (event) => { const box = event.target.getBoundingClientRect(); seek((event.clientX - box.left) / box.width * P.length); listNeighbours(); });
  $("timeline").addEventListener("keydown", (event) => { const step = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key]; if (step && P.detail) { event.preventDefault(); seek(now() + step); } });
  const here = () => ({ id: P.id, seconds: P.detail.clips.length ? P.detail.clips[clipNow()].start_seconds : 0 });
  $("similar-clips").addEventListener("click", () => { P.seconds = now(); listNeighbours(); showSimilar("clips", [here()], [], `like ${P.detail.name} at ${moment(now())}`); });
  $("similar-videos").addEventListener("click", () => { listNeighbours("videos"); showSimilar("videos", [{ id: P.id }], [], `like ${P.detail.name}`); });
  $("less-like").addEventListener("click", () => S.results && showSimilar(S.results.kind, S.like, [...S.unlike, here()], `${S.results.title}, not ${P.detail.name} at ${moment(now())}`));
  $("select-clip").addEventListener("click", () => select([rowAt(S.videos[S.rowOf.get(P.id)], now())], true));
  $("select-video").addEventListener("click", () => select(rowsOf(S.videos[S.rowOf.get(P.id)]), true));
  $("why").addEventListener("click", explainMoment);
  $("compare-with").addEventListener("click", () => {
    const other = named($("compare-a").value), mine = P.detail;
    if (other && other.id !== mine.id) compare(other, mine); else { $("compare-a").value = mine.name; C.first = mine; }
    go("compare"); closePlayer(); $("compare-b").focus();
  });

  $("compare-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const pick = (text) => named(text) || (C.first?.name === text ? C.first : null), a = pick($("compare-a").value), b = pick($("compare-b").value);
    if (!a || !b) { news(`There is no video ${JSON.stringify(a ? $("compare-b").value : $("compare-a").value)}; choose a name from the list.`, { bad: true }); return; }
    compare(a, b);
  });
  const cellAt = (event) => { const box = $("matrix").getBoundingClientRect(); return [Math.floor((event.clientY - box.top) / C.size), Math.floor((event.clientX - box.left) / C.size)]; };
  $("matrix").addEventListener("click", (event) => C.found && pointAt(...cellAt(event)));
  $("matrix").addEventListener("pointermove", (event) => {
    if (!C.found) return;
    const [r, k] = cellAt(event), value = C.found.scores[r]?.[k];
    if (value !== undefined) $("matrix").title = `${moment(C.found.rows[r].start_seconds)} and ${moment(C.found.columns[k].start_seconds)}: ${value.toFixed(2)}`;
  });
  $("matrix").addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Enter: [0, 0] }[event.key];
    if (step && C.found) { event.preventDefault(); pointAt(C.cell[0] + step[0], C.cell[1] + step[1], event.key === "Enter"); }
  });

  $("fit").addEventListener("click", fit);
  for (const id of ["label-show", "predicted-filter"]) $(id).addEventListener("change", showLabels);
  $("confidence-max").addEventListener("input", showLabels);
  $("select-shown").addEventListener("click", () => select(labelGrid.items.slice(0, labelGrid.shown).map((item) => item.row), true));
  $("label-bar").addEventListener("submit", (event) => { event.preventDefault(); const text = $("label-text").value.trim(); text ? saveLabels(text) : $("label-text").focus(); });
  $("unlabel").addEventListener("click", () => saveLabels(""));
  $("show-selection").addEventListener("click", () => { S.bySelection = true; S.results = null; go("library"); showLibrary(); });
  $("clear-selection").addEventListener("click", () => { S.selection.clear(); selectionChanged(); });

  $("choose-file").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => { for (const file of $("file").files) sendFile(file); $("file").value = ""; });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dragging"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dragging"); });
  addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("dragging"); for (const file of event.dataTransfer.files) sendFile(file); });
}

async function start() {
  libraryGrid = new Grid($("library-grid"), $("library-end")); labelGrid = new Grid($("label-grid"), $("label-end"));
  mapGrid = new Grid($("map-grid"), null); neighbourGrid = new Grid($("neighbours"), null);
  if (localStorage.getItem("still")) { $("motion").checked = false; document.body.classList.add("still"); }
  map.start(); listen();
  S.classes = [];
  const first = await attempt(() => api("/state"));
  if (first) {
    S.state = first;
    const names = { pca: "PCA", tsne: "t-SNE", umap: "UMAP" };
    fill($("map-method"), first.maps.map((method) => [method, names[method]]), false);
    $("upload-limits").textContent = `Up to ${(first.max_upload_bytes / 1e6).toFixed(0)} MB and ${time(first.max_upload_seconds)} long. It stays on this server until the server ends.`;
    await attempt(loadTables);
  }
  route();
  document.documentElement.dataset.ready = "1";
  watch();
}
start();
