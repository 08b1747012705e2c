// The view of one video.

const view = (video, row, width) => {
  const now = { frame: 0, listeners: [] };
  const show = (frame) => { now.frame = frame; for (const listener of now.listeners) listener(frame); };
  const label = row.dataset.label === "" ? "no label" : row.dataset.label;
  const facts = element("p", { className: "facts" });
  const fact = (name, value) => facts.append(name, element("b", {}, element("bdi", {}, value)), "   ");
  fact("class ", label);
  fact("predicted ", row.dataset.predicted);
  if (row.dataset.confidence) { fact("confidence ", percent(row.dataset.confidence, 1)); fact("margin ", percent(row.dataset.margin, 1)); }
  fact("frames ", String(video.pts.length));
  fact("seconds ", (video.end - video.pts[0]).toFixed(2));
  fact("clusters ", video.boundaries.slice(1).map((stop, j) => stop - video.boundaries[j]).join(" · "));
  const player = makePlayer(video, now, show, width);
  const parts = [element("div", { className: "parts" }, player.box, scores(video, row))];
  return [facts, curve(video, now, show, width), slider(video, now, show, width), film(video, width, player.play), ...sideBySide(video, width), ...parts, ...near(video)];
};

const clusterOf = (video, frame) => video.boundaries.findIndex((stop) => stop > frame) - 1;

const edgeOf = (width) => (width < 600 ? 8 : 46);  // beside the curve, px

// A picture of the sprite, `width` px wide, of the tile at `at`.
const tile = (video, at, width) => {
  const { columns, tile_width, tile_height, source, tiles } = video.sprite, scale = width / tile_width;
  const made = element("div", { className: "tile" });
  made.style.cssText = `width:${width}px;height:${Math.round(tile_height * scale)}px;background-size:${columns * width}px ${Math.ceil(tiles / columns) * tile_height * scale}px`;
  made.style.backgroundImage = `url("${source}")`;
  turn(made, video, at);
  return made;
};
const turn = (made, video, at) => {
  const { columns, tile_width, tile_height } = video.sprite, width = parseFloat(made.style.width);
  made.style.backgroundPosition = `${-(at % columns) * width}px ${-Math.floor(at / columns) * tile_height * width / tile_width}px`;
};
const nearest = (video, frame) => {
  const frames = video.sprite.frames;
  let best = 0;
  for (let at = 1; at < frames.length; at++) if (Math.abs(frames[at] - frame) < Math.abs(frames[best] - frame)) best = at;
  return best;
};

// The step distances as bars, the cumulative change as a line, its equal shares, and where clusters begin.
const curve = (video, now, show, width) => {
  const { pts, steps, boundaries, colors, end } = video, count = pts.length, height = 230;
  const edge = edgeOf(width), left = edge, right = width - edge, top = 22, bottom = height - 26;
  const begin = pts[0], x = (time) => left + (right - left) * (time - begin) / ((end - begin) || 1);
  const highest = Math.max(...steps, 0) || 1, drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  drawing.setAttribute("aria-label", `Change from frame to frame, and where the ${boundaries.length - 1} clusters begin`);
  const y = (share) => bottom - (bottom - top) * share;
  for (let j = 0; j + 1 < boundaries.length; j++) {
    const from = x(pts[boundaries[j]]), to = j + 2 < boundaries.length ? x(pts[boundaries[j + 1]]) : x(end);
    drawing.append(shape("rect", { x: from, y: top, width: to - from, height: bottom - top, fill: colors[j], opacity: 0.16 }));
    drawing.append(shape("rect", { x: from, y: bottom, width: to - from, height: 18, fill: colors[j] }));
    if (to - from > 12 + 8 * String(j).length) drawing.append(shape("text", { class: "on", x: (from + to) / 2, y: bottom + 13, style: `fill:${video.inks[j]}` }, j));
    if (j) drawing.append(shape("line", { class: "cut", x1: from, x2: from, y1: top, y2: bottom }));
  }
  const peaks = new Map();  // the largest of the steps that share a pixel
  steps.forEach((step, at) => { const px = Math.round(x(pts[at + 1])); peaks.set(px, Math.max(peaks.get(px) ?? 0, step)); });
  const bar = Math.max((right - left) / count * 0.7, 1.2);
  let path = "";
  for (const [px, step] of peaks) path += `M${px - bar / 2} ${bottom}V${y(0.94 * step / highest).toFixed(1)}h${bar.toFixed(2)}V${bottom}z`;
  drawing.append(shape("path", { class: "steps", d: path }));
  const total = steps.reduce((sum, step) => sum + step, 0), sums = [0];
  for (const step of steps) sums.push(sums.at(-1) + step);
  const share = (frame) => total ? sums[frame] / total : 0;
  const every = Math.ceil(count / 1500);
  for (let j = 1; j + 1 < boundaries.length; j++) drawing.append(shape("line", { class: "share", x1: left, x2: right, y1: y(0.94 * j / (boundaries.length - 1)), y2: y(0.94 * j / (boundaries.length - 1)) }));
  let line = "";
  for (let frame = 0; frame < count; frame += every) line += `${frame ? "L" : "M"}${x(pts[frame]).toFixed(1)} ${y(0.94 * share(frame)).toFixed(1)}`;
  line += `L${x(pts[count - 1]).toFixed(1)} ${y(0.94 * share(count - 1)).toFixed(1)}`;
  drawing.append(shape("path", { class: "sum", d: line }));
  boundaries.slice(1, -1).forEach((frame) => drawing.append(shape("circle", { class: "dot", cx: x(pts[frame]), cy: y(0.94 * share(frame)), r: 3.6 })));
  drawing.append(shape("text", { x: left, y: 13 }, `bars: bits that change per step, up to ${percent(highest / video.bits, 1)}`));
  if (edge > 40) drawing.append(shape("text", { x: right, y: 13, "text-anchor": "end" }, "line: share of all change; dashed: equal shares"));
  if (edge > 40) for (const [part, text] of [[0, "0 %"], [0.5, "50 %"], [1, "100 %"]]) drawing.append(shape("text", { x: right + 5, y: y(0.94 * part) + 4 }, text));
  const line_now = shape("line", { class: "now", x1: left, x2: left, y1: top, y2: bottom + 18 });
  drawing.append(line_now);
  const tip = element("div", { className: "tip", hidden: true }), picture = tile(video, 0, 150), words = element("div");
  tip.append(picture, words);
  const box = element("div", { className: "curve" }, drawing, tip);
  now.listeners.push((frame) => {
    const at = x(pts[frame]);
    line_now.setAttribute("x1", at); line_now.setAttribute("x2", at);
    turn(picture, video, nearest(video, frame));
    words.replaceChildren(`frame ${frame}, ${seconds(pts[frame] - begin)}`, element("br"), `cluster ${clusterOf(video, frame)}, change ${frame ? percent(steps[frame - 1] / video.bits, 1) : "none"}`);
    tip.style.left = `${Math.min(Math.max(at + 12, 0), width - 172)}px`;
    if (at + 184 > width) tip.style.left = `${Math.max(at - 176, 0)}px`;
  });
  box.addEventListener("pointermove", (event) => {
    const time = begin + (event.clientX - box.getBoundingClientRect().left - left) / (right - left) * (end - begin);
    let low = 0, high = count - 1;
    while (low < high) { const middle = (low + high + 1) >> 1; if (pts[middle] <= time) low = middle; else high = middle - 1; }
    tip.hidden = false;
    show(low);
  });
  box.addEventListener("pointerleave", () => { tip.hidden = true; });
  return box;
};
const slider = (video, now, show, width) => {
  const made = element("input", { type: "range", className: "time", min: 0, max: video.pts.length - 1, value: 0 });
  made.setAttribute("aria-label", "Frame");
  made.style.cssText = `margin-left:${edgeOf(width)}px;width:${width - 2 * edgeOf(width)}px`;
  made.addEventListener("input", () => show(Number(made.value)));
  now.listeners.push((frame) => { made.value = frame; });
  return made;
};

// Every cluster as wide as it lasts, with as many of its frames as fit.
const film = (video, width, play) => {
  const { pts, boundaries, end, sprite } = video, total = (end - pts[0]) || 1, clusters = boundaries.length - 1;
  const high = 74, wide = high * sprite.tile_width / sprite.tile_height, strip = element("div", { className: "film" });
  strip.style.margin = `0 ${edgeOf(width)}px`;
  for (let j = 0; j < clusters; j++) {
    const from = pts[boundaries[j]], to = j + 1 < clusters ? pts[boundaries[j + 1]] : end;
    const room = (width - 2 * edgeOf(width) - 2 * clusters) * (to - from) / total;
    const own = sprite.frames.flatMap((frame, at) => frame >= boundaries[j] && frame < boundaries[j + 1] ? [at] : []);
    const number = Math.min(Math.max(Math.floor(room / wide), 1), own.length);
    const button = element("button", { type: "button", title: `cluster ${j}: ${boundaries[j + 1] - boundaries[j]} frames, ${seconds(from - pts[0])} to ${seconds(to - pts[0])}` });
    button.setAttribute("aria-label", `Play cluster ${j}`);
    button.setAttribute("aria-pressed", "false");
    button.style.borderTopColor = video.colors[j];
    button.style.flexGrow = String((to - from) / total * 1000);
    for (let i = 0; i < number; i++) button.append(tile(video, own[number === 1 ? own.length >> 1 : Math.round(i * (own.length - 1) / (number - 1))], wide));
    button.addEventListener("click", () => {
      for (const other of strip.children) other.setAttribute("aria-pressed", String(other === button));
      play(j);
    });
    strip.append(button);
  }
  return strip;
};

// The clusters of every run, and known segments, one below the other in the same time.
const sideBySide = (video, width) => {
  const { runs, known, pts, end } = video;
  if (runs.length < 2 && !known.length) return [];
  const edge = edgeOf(width), begin = pts[0], x = (time) => edge + (width - 2 * edge) * (time - begin) / ((end - begin) || 1);
  const rows = runs.length + (known.length ? 1 : 0), high = 44, drawing = shape("svg", { viewBox: `0 0 ${width} ${rows * high}`, role: "img" });
  drawing.style.height = `${rows * high}px`;
  drawing.setAttribute("aria-label", "The clusters of each run in time");
  const line = (at, name, what) => {
    const text = shape("text", { x: edge, y: at * high + 14 });
    text.append(shape("tspan", { class: "name" }, name), shape("tspan", {}, what ? `   ${what}` : ""));
    drawing.append(text);
  };
  const part = (at, from, to, color, title) => {
    const box = shape("rect", { x: x(from), y: at * high + 20, width: Math.max(x(to) - x(from) - 1, 1), height: 18, fill: color });
    box.append(shape("title", {}, title));
    drawing.append(box);
  };
  let at = 0;
  if (known.length) {
    line(at, "known segments");
    for (const [start, stop, name] of known) {
      const from = Math.min(Math.max(start, begin), end), to = Math.min(Math.max(stop, begin), end);
      if (to <= from) continue;
      part(at, from, to, "var(--bar)", `${name}, ${seconds(start - begin)} to ${seconds(stop - begin)}`);
      if (x(to) - x(from) > 9 * name.length) drawing.append(shape("text", { class: "on", x: (x(from) + x(to)) / 2, y: at * high + 33 }, name));
    }
    at += 1;
  }
  for (const { name, what, starts, colors } of runs) {
    line(at, name, what);
    starts.forEach((from, j) => { const to = starts[j + 1] ?? end; part(at, from, to, colors[j], `cluster ${j}, ${seconds(from - begin)} to ${seconds(to - begin)}`); });
    at += 1;
  }
  for (const time of new Set(known.flatMap(([start, stop]) => [start, stop]))) {
    if (time > begin && time < end) drawing.append(shape("line", { class: "edge", x1: x(time), x2: x(time), y1: 18, y2: rows * high }));
  }
  return [element("h4", {}, "Side by side"), element("div", { className: "bands" }, drawing)];
};

// Plays a cluster: the original video where it is there and the browser reads it, else the stored frames.
const makePlayer = (video, now, show, width) => {
  const { pts, boundaries, end, sprite } = video, box = element("div", { className: "player" });
  const wide = Math.min(200, 1.6 * sprite.tile_width, (width - 10) / 2), frame = tile(video, 0, wide), mean = tile(video, sprite.frames.length, wide);
  const caption = element("figcaption"), mean_caption = element("figcaption");
  const pictures = element("div", { className: "pictures" }, element("figure", {}, frame, caption), element("figure", {}, mean, mean_caption));
  const film_box = element("div"), stop = element("button", { type: "button", hidden: true }, "Stop");
  let timer = 0;
  const halt = () => {
    clearInterval(timer);
    stop.hidden = true;
    film_box.replaceChildren();
    box.dataset.playing = "";
  };
  stop.addEventListener("click", halt);
  now.listeners.push((at) => {
    const j = clusterOf(video, at);
    turn(frame, video, nearest(video, at));
    turn(mean, video, sprite.frames.length + Math.min(j, sprite.means - 1));
    caption.textContent = `frame ${sprite.frames[nearest(video, at)]}`;
    mean_caption.textContent = `mean of cluster ${j}`;
  });
  const stored = (j) => {
    const own = sprite.frames.filter((at) => at >= boundaries[j] && at < boundaries[j + 1]);
    let at = 0;
    box.dataset.playing = "frames";
    show(own[0]);
    timer = setInterval(() => { at = (at + 1) % own.length; show(own[at]); if (!dialog.open) halt(); }, 120);
  };
  const play = (j) => {
    halt();
    stop.hidden = false;
    show(boundaries[j]);
    if (!video.original) { stored(j); return; }
    const from = pts[boundaries[j]], to = j + 2 < boundaries.length ? pts[boundaries[j + 1]] : end;
    const player = element("video", { src: `${video.original}#t=${from},${to}`, controls: true, muted: true, autoplay: true });
    player.addEventListener("playing", () => { box.dataset.playing = "video"; });
    player.addEventListener("error", () => { if (player.isConnected) { film_box.replaceChildren(); stored(j); } });
    film_box.replaceChildren(player);
  };
  box.append(element("h4", {}, "Frames of a cluster, and their mean"), pictures, film_box, stop);
  queueMicrotask(() => show(0));
  return { box, play };
};

// Which cluster voted for what: softmax of each cluster's own logits, and of their mean.
const scores = (video, row) => {
  const box = element("div", { className: "scores", tabIndex: 0, role: "region", ariaLabel: "Scores" }, element("h4", {}, "Which cluster voted for what"));
  if (!video.scores) { box.append(element("p", {}, "The scores of clusters were not kept.")); return box; }
  const { scores: each, whole } = video, best = (list) => list.indexOf(Math.max(...list));
  const votes = new Map();
  for (const list of each) votes.set(best(list), (votes.get(best(list)) ?? 0) + 1);
  const wanted = [classes.indexOf(row.dataset.predicted), classes.indexOf(row.dataset.label), ...[...votes].sort((a, b) => b[1] - a[1]).map(([at]) => at), ...whole.map((_, at) => at).sort((a, b) => whole[b] - whole[a])];
  const chosen = [...new Set(wanted)].filter((at) => at >= 0).slice(0, 8);
  const head = element("tr", {}, element("th", { scope: "col" }, "class"));
  each.forEach((_, j) => {
    const cell = element("th", { className: "cluster", scope: "col" }, String(j));
    cell.style.cssText = `background:${video.colors[j]};color:${video.inks[j]}`;
    head.append(cell);
  });
  head.append(element("th", { scope: "col" }, "whole"));
  const table = element("table", {}, element("thead", {}, head)), content = element("tbody");
  for (const at of chosen) {
    const name = element("th", { scope: "row", title: classes[at] }, element("bdi", {}, classes[at]));
    if (classes[at] === row.dataset.label) name.append(element("span", { className: "tag" }, " true"));
    if (classes[at] === row.dataset.predicted) name.append(element("span", { className: "tag" }, " predicted"));
    const line = element("tr", {}, name);
    for (const [j, list] of [...each, whole].entries()) {
      const value = list[at], cell = element("td", { className: "cell" }, value < 0.005 ? "" : (100 * value).toFixed(0));
      if (j === each.length) cell.style.fontWeight = 700;
      cell.style.background = `color-mix(in srgb, var(--accent) ${Math.round(40 * value)}%, transparent)`;
      line.append(cell);
    }
    content.append(line);
  }
  table.append(content);
  box.append(table, element("p", { className: "faint" }, "Softmax in %, of each cluster alone and of the mean of their logits."));
  const predicted = classes.indexOf(row.dataset.predicted), label = classes.indexOf(row.dataset.label);
  if (row.dataset.verdict === "wrong" && label >= 0) {
    const pushed = each.map((list) => Math.log((list[predicted] + 1e-6) / (list[label] + 1e-6)));
    box.append(element("p", {}, `Cluster ${best(pushed)} pushed most towards `, element("bdi", {}, row.dataset.predicted), "."));
  }
  return box;
};

// The nearest training videos, beside a mistake.
const near = (video) => {
  if (!video.near?.length) return [];
  const box = element("div", { className: "near" });
  for (const found of video.near) {
    box.append(element("figure", {}, element("img", { src: found.picture, alt: "", loading: "lazy" }),
      element("figcaption", {}, "nearest of ", element("bdi", {}, found.label), ": ", element("bdi", {}, found.id), `, similarity ${found.similarity.toFixed(2)}`)));
  }
  return [element("h4", {}, "Nearest videos of the training, of the predicted and of the true class"), box];
};
