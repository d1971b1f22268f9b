/* The page of `c3dvideo watch --page`. One file, no libraries; every text enters the page as text, never as HTML.

   Sections: state and helpers · state line and counts · bars · timeline · picture · events and keyboard. */
"use strict";

/* ---------- state and helpers ---------- */

const $ = (id) => document.getElementById(id);
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#808080"];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]]; // beside the colour, for those who do not see it
const HISTORY_SECONDS = 60, GAP_SECONDS = 3, LINES = 8;

const L = { status: null, points: [], numbers: new Map(), isPaused: false, isLost: false, source: null, picture: -1 };

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}
const percent = (share) => `${Math.round(100 * share)}%`;
const capital = (text) => text.replace(/^./, (c) => c.toUpperCase());
const shownValue = (value) => (L.status.unit === "probability" ? percent(value) : value.toFixed(2));

/** The number of a class, in the order in which classes were first shown: its colour and dashes stay. */
function classNumber(name) {
  if (!L.numbers.has(name)) L.numbers.set(name, L.numbers.size);
  return L.numbers.get(name);
}
const colour = (name) => COLOURS[classNumber(name) % COLOURS.length];
const dashes = (name) => DASHES[Math.floor(classNumber(name) / COLOURS.length) % DASHES.length];

/** The least and the greatest value that is drawn; scores have no fixed ones. */
function range() {
  if (L.status.unit === "probability") return [0, 1];
  const values = L.points.flatMap((point) => [point.values[0], point.values.at(-1)]); // they are sorted
  const low = Math.min(...values), high = Math.max(...values);
  return high > low ? [low, high] : [low - 1, high + 1];
}

/* ---------- state line and counts ---------- */

function stateText(status) {
  const reason = status.reason.replace(/\.$/, "");
  switch (status.state) {
    case "starting": return "Loading the network…";
    case "connecting": return "Connecting…";
    case "watching": return "Live";
    case "reconnecting":
      return `Reconnecting: ${reason}. ` + (status.wait_seconds ? `The next attempt follows within ${status.wait_seconds} s.` : "Trying now…");
    default: return reason ? `Ended: ${reason}.` : "Ended: the source has ended.";
  }
}

function showState() {
  const status = L.status, line = $("state");
  const state = L.isLost && status?.state !== "ended" ? "lost" : status?.state || "loading";
  const text = state === "lost" ? "The command does not answer. Trying again…" : status ? stateText(status) : "Loading…";
  if (line.textContent !== text) line.textContent = text;
  line.dataset.state = state;
  document.title = `${state === "watching" ? "Live" : capital(state)} · ${status?.source || "c3dvideo"}`;
}

function showCounts(status) {
  const again = Math.max(0, status.connections - 1);
  $("source").textContent = status.source;
  $("frames").textContent = status.frames.toLocaleString("en");
  $("dropped").textContent = status.dropped_frames.toLocaleString("en");
  $("latency").textContent = status.latency_seconds === null ? "–" : `${Math.round(1000 * status.latency_seconds)} ms`;
  $("behind").textContent = status.connections ? `${status.behind_seconds.toFixed(1)} s` : "–";
  $("reconnected").textContent = again === 1 ? "once" : `${again.toLocaleString("en")} times`;
}

/* ---------- bars ---------- */

/** One row per class of the latest clip; rows are kept, so that widths can move. */
function showBars() {
  const latest = L.points.at(-1), list = $("bars"), [low, high] = latest ? range() : [0, 1];
  $("bars-empty").hidden = Boolean(latest);
  const names = latest ? latest.classes : [];
  while (list.children.length > names.length) list.lastChild.remove();
  names.forEach((name, row) => {
    if (!list.children[row]) list.append(el("li", {}, el("i"), el("span"), el("span")));
    const [bar, label, value] = list.children[row].children;
    const share = (latest.values[row] - low) / (high - low);
    list.children[row].style.setProperty("--dot", colour(name));
    bar.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
    label.textContent = label.title = name;
    value.textContent = shownValue(latest.values[row]);
  });
}

/* ---------- timeline ---------- */

/** The classes with the largest values in the minute, in the order of their colours. */
function lineNames() {
  const most = new Map();
  for (const point of L.points) point.classes.forEach((name, k) => most.set(name, Math.max(most.get(name) ?? -Infinity, point.values[k])));
  const best = [...most].sort((a, b) => b[1] - a[1]).slice(0, LINES).map(([name]) => name);
  return best.sort((a, b) => classNumber(a) - classNumber(b));
}

function drawTimeline() {
  const canvas = $("timeline"), ratio = Math.min(devicePixelRatio || 1, 2), css = getComputedStyle(document.documentElement);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  }
  const draw = canvas.getContext("2d");
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw.clearRect(0, 0, width, height);
  if (!L.points.length) return;
  const [low, high] = range(), left = 44, bottom = height - 22, top = 10, end = L.points.at(-1).seconds, start = end - HISTORY_SECONDS;
  const x = (seconds) => left + (width - left - 10) * (seconds - start) / HISTORY_SECONDS;
  const y = (value) => bottom - (bottom - top) * (value - low) / (high - low);
  draw.font = "12px system-ui, sans-serif";
  draw.fillStyle = css.getPropertyValue("--soft"); draw.strokeStyle = css.getPropertyValue("--line"); draw.lineWidth = 1;
  for (const share of [0, 0.5, 1]) {
    const value = low + share * (high - low);
    draw.beginPath(); draw.moveTo(left, y(value)); draw.lineTo(width - 10, y(value)); draw.stroke();
    draw.textAlign = "right"; draw.fillText(shownValue(value), left - 6, y(value) + 4);
  }
  for (const ago of [60, 40, 20, 0]) {
    draw.textAlign = ago === 0 ? "right" : ago === 60 ? "left" : "center";
    draw.fillText(ago ? `−${ago} s` : "now", x(end - ago), height - 6);
  }
  const names = lineNames();
  draw.lineWidth = 2;
  for (const name of names) {
    draw.strokeStyle = colour(name); draw.setLineDash(dashes(name));
    draw.beginPath();
    let last = null; // no line leads over a gap: the source was lost, or the class was not among the best
    for (const point of L.points) {
      const k = point.classes.indexOf(name);
      if (k < 0) { last = null; continue; }
      const goes = last !== null && point.seconds - last < GAP_SECONDS;
      goes ? draw.lineTo(x(point.seconds), y(point.values[k])) : draw.moveTo(x(point.seconds), y(point.values[k]));
      last = point.seconds;
    }
    draw.stroke();
  }
  draw.setLineDash([]);
  showLegend(names);
}

function showLegend(names) {
  const key = names.join("\n"), legend = $("legend");
  if (legend.dataset.key === key) return;
  legend.dataset.key = key;
  legend.replaceChildren(...names.map((name) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), line = document.createElementNS(svg.namespaceURI, "line");
    for (const [attribute, value] of Object.entries({ x1: 0, x2: 28, y1: 4, y2: 4, stroke: colour(name), "stroke-width": 3, "stroke-dasharray": dashes(name).join(" ") || "none" })) line.setAttribute(attribute, value);
    svg.setAttribute("aria-hidden", "true");
    svg.append(line);
    return el("li", {}, svg, name);
  }));
  $("timeline-text").textContent = `${capital(L.status.unit)} over time of ${names.join(", ")}.`;
}

/* ---------- picture ---------- */

const ended = () => L.status?.state === "ended";
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Fetch one picture after the other: the next is wanted only when the last has come. */
async function showPictures() {
  let atEnd = false;
  for (;;) {
    if (L.isPaused || document.hidden || L.isLost) { await pause(200); continue; }
    if (atEnd) return;
    atEnd = ended(); // one more, which is the last
    try {
      const answer = await fetch(`/api/live/picture.jpg?after=${L.picture}`);
      if (answer.status === 200) {
        const before = $("picture").src, content = await answer.blob();
        L.picture = Number(answer.headers.get("x-picture"));
        $("picture").src = URL.createObjectURL(content);
        if (before) URL.revokeObjectURL(before);
        $("picture").hidden = false; $("picture-empty").hidden = true;
      } else if (answer.status !== 204) await pause(1000);
    } catch { await pause(1000); }
  }
}

/* ---------- events and keyboard ---------- */

function show() {
  showState();
  if (!L.status) return;
  showCounts(L.status);
  showBars();
  drawTimeline();
}

function takeStatus(status) {
  L.status = status;
  L.points.push(...status.points);
  const last = L.points.at(-1);
  while (last && L.points[0].seconds < last.seconds - HISTORY_SECONDS) L.points.shift();
  if (!document.hidden) show();
}

/** Follow the events; the browser connects again by itself, and the first event then holds the whole minute. */
function follow() {
  const source = new EventSource("/api/live/events");
  source.onopen = () => { L.isLost = false; L.points = []; };
  source.onmessage = (event) => {
    takeStatus(JSON.parse(event.data));
    if (ended()) { source.close(); L.source = null; }
  };
  source.onerror = () => {
    L.isLost = true; showState();
    if (source.readyState === EventSource.CLOSED) { L.source = null; setTimeout(resume, 3000); } // refused, not only cut off
  };
  L.source = source;
}
/** Follow again what a hidden or paused page has let go, so that it takes none of the browser's few connections. */
function resume() { if (!L.source && !L.isPaused && !document.hidden && !ended()) follow(); }
function leave() { L.source?.close(); L.source = null; }

function togglePause() {
  L.isPaused = !L.isPaused;
  $("pause").setAttribute("aria-pressed", L.isPaused);
  L.isPaused ? leave() : resume();
}

function start() {
  $("pause").addEventListener("click", togglePause);
  document.addEventListener("keydown", (event) => {
    if (event.key === "p" && !event.ctrlKey && !event.metaKey && !event.altKey) togglePause();
  });
  document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else { resume(); show(); } });
  new ResizeObserver(() => { if (L.status) drawTimeline(); }).observe($("timeline"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (L.status) drawTimeline(); });
  follow();
  showPictures();
}
start();
