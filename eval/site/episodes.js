// The page of episodes: filters, a map of positions, and the rollout of the point that was chosen.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WORDS = { place: "placed", grasp: "grasped, not placed", miss: "missed" };
const WIDTH = 600, LOW = 160, MARGIN = 52, NEAR = 28; // of the map, in its own units; how far a click may be off
const APART = 13, ON_TOP = { place: 0, grasp: 1, miss: 2 };
const byId = (id) => document.getElementById(id);
const filters = ["suite", "split", "executor", "policy", "arrange"].map(byId);
const chosen = { group: null, policy: null, episode: null };

function element(name, attributes = {}, ...children) {
  const made = name === "svg" || name === "use" ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function mark(outcome) {
  return element("svg", { class: `mark ${outcome}`, viewBox: "-8 -8 16 16", "aria-hidden": "true" },
    element("use", { href: `#mark-${outcome}` }));
}

/* Filters: each offers what is left by those before it, and keeps its value where that is still there. */

function offer(select, options, wanted) {
  select.replaceChildren(...options.map(([value, words]) => element("option", { value }, words)));
  if (options.some(([value]) => value === wanted)) select.value = wanted;
  select.closest("label").hidden = options.length < 2 && select.id === "arrange";
}

const unique = (values) => [...new Set(values)];

function update(wanted = {}) {
  const [suite, split, executor, policy, arrange] = filters;
  const want = (select) => wanted[select.id] ?? select.value;
  offer(suite, unique(DATA.groups.map((g) => g.suite)).map((s) => [s, s]), want(suite));
  const inSuite = DATA.groups.filter((g) => g.suite === suite.value);
  offer(split, unique(inSuite.map((g) => g.split)).map((s) => [s, inSuite.find((g) => g.split === s).title]), want(split));
  const onAxis = inSuite.filter((g) => g.split === split.value);
  offer(executor, onAxis.map((g) => [g.executor, g.executor]), want(executor));
  chosen.group = onAxis.find((g) => g.executor === executor.value);
  offer(policy, chosen.group.policies.map((p) => [p.name, p.label]), want(policy));
  chosen.policy = chosen.group.policies.find((p) => p.name === policy.value);
  offer(arrange, arrangements(chosen.policy.episodes), want(arrange));
  const number = wanted.episode === undefined ? chosen.episode?.n : Number(wanted.episode);
  chosen.episode = visible().find((e) => e.n === number) ?? null;
  draw();
}

function arrangements(episodes) {
  const found = [];
  const spread = (axis) => {
    const values = episodes.filter((e) => e.xy).map((e) => e.xy[axis]);
    return Math.max(...values) - Math.min(...values);
  };
  if (episodes.some((e) => e.xy) && (episodes.length < 2 || spread(0) > 0.03 || spread(1) > 0.03)) found.push(["position", "position"]);
  if (episodes.some((e) => e.view)) found.push(["camera", "camera"]);
  found.push(["number", "number"]);
  return found;
}

const shownOutcomes = () => [...document.querySelectorAll(".filters input:checked")].map((box) => box.value);
const visible = () => chosen.policy.episodes.filter((e) => shownOutcomes().includes(e.o));

/* The map. Every arrangement gives an episode a place in metres, degrees or numbers, right and down. */

function place(episode, arrange) {
  const { right, down } = chosen.group;
  if (arrange === "position" && episode.xy) return onTable(episode.xy, right, down);
  if (arrange === "camera" && episode.view) {
    const [theta, phi] = [episode.view[0], (episode.view[1] * Math.PI) / 180];
    return [-theta * Math.sin(phi), -theta * Math.cos(phi)]; // raised cameras above, those to the left at the left
  }
  return [episode.n % 10, Math.floor(episode.n / 10)];
}

const onTable = (xy, right, down) => [xy[0] * right[0] + xy[1] * right[1], xy[0] * down[0] + xy[1] * down[1]];

function draw() {
  const svg = byId("map"), arrange = byId("arrange").value, { group, policy } = chosen;
  const trained = arrange === "position" && policy.trained !== null ? group.trained[policy.trained] : [];
  const squares = trained.map((xy) => onTable(xy, group.right, group.down));
  const corners = arrange === "position" && group.table ? group.table.map((xy) => onTable(xy, group.right, group.down)) : [];
  const every = [...policy.episodes.map((e) => place(e, arrange)), ...squares, ...corners];
  const low = [0, 1].map((i) => Math.min(...every.map((p) => p[i])));
  const high = [0, 1].map((i) => Math.max(...every.map((p) => p[i])));
  const span = Math.max(high[0] - low[0], high[1] - low[1], arrange === "position" ? 0.1 : 1);
  const scale = (WIDTH - 2 * MARGIN) / span;
  const shift = (WIDTH - 2 * MARGIN - scale * (high[0] - low[0])) / 2;
  const at = (p) => [MARGIN + shift + (p[0] - low[0]) * scale, MARGIN + drop + (p[1] - low[1]) * scale];
  const room = Math.max(scale * (high[1] - low[1]), LOW); // a row of points stands in the middle of it
  const height = 2 * MARGIN + room, drop = (room - scale * (high[1] - low[1])) / 2;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  svg.replaceChildren(...axes(arrange, height, scale, group));
  if (corners.length) {
    const [[left, top], [right, bottom]] = corners.map(at);
    svg.append(drawn("rect", { class: "table", x: left, y: top, width: right - left, height: bottom - top }));
  }
  for (const p of squares) svg.append(symbol("trained", at(p), "trained"));
  const its = visible(), places = apart(its.map((e) => at(place(e, arrange))));
  const order = its.map((e, i) => i).sort((i, j) => ON_TOP[its[i].o] - ON_TOP[its[j].o]); // what went wrong is never hidden
  for (const i of order) svg.append(point(its[i], ...places[i]));
  describe();
  show();
}

/* Episodes of one position differ by a centimetre and would hide each other: they push each other away. */
function apart(places) {
  const moved = places.map((p) => [...p]);
  for (let round = 0; round < 40; round++)
    for (let i = 1; i < moved.length; i++)
      for (let j = 0; j < i; j++) {
        let [x, y] = [moved[i][0] - moved[j][0], moved[i][1] - moved[j][1]];
        const away = Math.hypot(x, y);
        if (away >= APART) continue;
        [x, y] = away > 0.01 ? [x / away, y / away] : [Math.cos(i * 2.4), Math.sin(i * 2.4)];
        const push = (APART - away) / 2;
        moved[i] = [moved[i][0] + x * push, moved[i][1] + y * push];
        moved[j] = [moved[j][0] - x * push, moved[j][1] - y * push];
      }
  return moved;
}

function axes(arrange, height, scale, group) {
  const twin = group.down[0] < 0, found = [];
  const words = { position: twin ? ["to the arm's right", "away from the arm"] : ["image right", "towards the camera"],
    camera: ["camera to the right", "camera lowered"], number: ["episodes 0, 1, 2, …", ""] }[arrange];
  found.push(drawn("text", { x: WIDTH / 2, y: height - 14, "text-anchor": "middle" }, `${words[0]} →`));
  const [arrow, end] = twin && arrange === "position" ? ["→", "middle"] : ["←", "middle"];
  if (words[1]) found.push(drawn("text", { transform: `translate(20 ${height / 2}) rotate(-90)`, "text-anchor": end },
    arrow === "→" ? `${words[1]} →` : `← ${words[1]}`));
  if (arrange === "number") return found;
  const metres = arrange === "position" ? 0.01 : 1; // centimetres or degrees
  const count = [10, 5, 2, 1].find((n) => n * metres * scale < 200) ?? 1, unit = count * metres;
  found.push(drawn("path", { d: `M${MARGIN} 22v-6m0 3h${unit * scale}m0 -3v6`, stroke: "#555", fill: "none" }));
  found.push(drawn("text", { x: MARGIN + unit * scale + 8, y: 24 }, `${count}${arrange === "position" ? " cm" : "°"}`));
  return found;
}

function symbol(name, [x, y], kind) {
  const made = drawn("g", { class: kind, transform: `translate(${x} ${y})` });
  made.append(drawn("use", { href: `#mark-${name}` }));
  return made;
}

function point(episode, x, y) {
  const made = symbol(episode.o, [x, y], `point ${episode.o}`);
  made.prepend(drawn("circle", { class: "ring", r: 11 }));
  const isChosen = episode === chosen.episode;
  made.classList.toggle("chosen", isChosen);
  const first = chosen.episode === null && episode === visible()[0];
  for (const [key, value] of Object.entries({ role: "button", tabindex: isChosen || first ? 0 : -1,
    "aria-label": `episode ${episode.n}: ${WORDS[episode.o]}`, "aria-pressed": isChosen, "data-n": episode.n })) made.setAttribute(key, value);
  made.dataset.x = x;
  made.dataset.y = y;
  return made;
}

function describe() {
  const { group, policy } = chosen, r = policy.rates, n = visible().length;
  const grouped = r.wilson95_grouped ? `, by groups ${r.wilson95_grouped.map((x) => x.toFixed(1)).join(" – ")}` : "";
  byId("rates").textContent = `${policy.label}: ${r.place.toFixed(1)} % of n = ${r.n} placed (Wilson 95 % ` +
    `${r.wilson95.map((x) => x.toFixed(1)).join(" – ")}${grouped}), ${r.grasp.toFixed(1)} % grasped and not placed` +
    (n < r.n ? `; ${n} shown` : "") + ".";
  const known = policy.trained === null ? "Where it was trained is not known: run or dataset is gone, or has no positions."
    : `Grey squares: the ${group.trained[policy.trained].length} positions it was trained on.`;
  const about = byId("arrange").value === "position" ? ` ${known}` : "";
  byId("legend").textContent = `Click a point, or move with the arrow keys, to see its rollout. Points that would hide each other stand side by side.${about}`;
}

/* The chosen episode. */

function choose(episode, focus = false) {
  chosen.episode = episode;
  draw();
  if (focus) byId("map").querySelector(".point.chosen")?.focus();
  const where = new URLSearchParams(filters.map((f) => [f.id, f.value]));
  if (episode) where.set("episode", episode.n);
  history.replaceState(null, "", `#${where}`);
}

function show() {
  const section = byId("episode"), { group, policy, episode } = chosen;
  if (!episode) {
    section.replaceChildren(element("p", { class: "note" }, visible().length ? "No episode is chosen." : "No episode is left by these filters."));
    return;
  }
  const title = element("h2", {}, mark(episode.o), ` Episode ${episode.n}: ${WORDS[episode.o]}`);
  const facts = element("dl", { class: "facts" });
  DATA.facts.forEach((name, i) => {
    if (episode.f[i] !== null) facts.append(element("dt", {}, name), element("dd", {}, episode.f[i]));
  });
  section.replaceChildren(title, ...pictures(policy, episode), steps(), ...others(group, policy, episode), facts);
}

function pictures(policy, episode) {
  if (episode.m) {
    const video = element("video", { src: episode.m, controls: "", loop: "", playsinline: "", preload: "auto", "aria-label": `rollout of episode ${episode.n}` });
    video.muted = true;
    video.playbackRate = video.defaultPlaybackRate = 0.5; // a picture per re-planning is few
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) video.autoplay = true;
    return [video, element("p", { class: "note" }, "What the policy saw at each re-planning, and at the end.")];
  }
  if (episode.row) return [element("img", { class: "frames", src: episode.row, alt: `pictures of episode ${episode.n}` }),
    element("p", { class: "note" }, "What the policy saw at every second re-planning.")];
  if (!policy.command) return [element("p", { class: "missing" }, "No pictures of this episode were kept.")];
  const filled = (text) => text.replaceAll("{n}", episode.n + 1).replace("{number}", String(episode.n).padStart(3, "0"));
  return [element("p", { class: "missing" }, "No pictures of this episode are on the site. This rolls it out again and keeps them:"),
    element("pre", {}, filled(policy.command)), element("p", { class: "note" }, `They are then ${filled(policy.where)}.`)];
}

function steps() {
  const its = visible(), i = its.indexOf(chosen.episode);
  const to = (words, j) => {
    const made = element("button", { type: "button" }, words);
    made.addEventListener("click", () => choose(its[(j + its.length) % its.length]));
    return made;
  };
  return element("div", { class: "steps" }, to("← previous", i - 1), to("next →", i + 1));
}

function others(group, policy, episode) {
  const buttons = group.policies.flatMap((p) => {
    const same = p.episodes.find((e) => e.n === episode.n);
    if (!same || group.policies.length < 2) return [];
    const made = element("button", { type: "button", "aria-pressed": p === policy }, mark(same.o), p.label);
    made.addEventListener("click", () => {
      byId("policy").value = p.name;
      for (const box of document.querySelectorAll(".filters input")) box.checked ||= box.value === same.o;
      update({ policy: p.name, episode: same.n });
      choose(chosen.episode);
    });
    return [made];
  });
  return buttons.length ? [element("p", { class: "note" }, "The same episode by each policy:"), element("div", { class: "others" }, ...buttons)] : [];
}

/* What the reader does. */

byId("map").addEventListener("click", (event) => {
  const box = byId("map").getBoundingClientRect(), scale = WIDTH / box.width;
  const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  const away = (p) => Math.hypot(p.dataset.x - x, p.dataset.y - y);
  const nearest = [...byId("map").querySelectorAll(".point")].sort((a, b) => away(a) - away(b))[0];
  if (nearest && away(nearest) < NEAR * Math.max(1, scale / 2)) choose(visible().find((e) => e.n === Number(nearest.dataset.n)));
});

byId("map").addEventListener("keydown", (event) => {
  const its = visible(), focused = Number(event.target.dataset?.n ?? -1), i = its.findIndex((e) => e.n === focused);
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Enter: 0, " ": 0 }[event.key];
  if (step === undefined || i < 0) return;
  event.preventDefault();
  choose(its[(i + step + its.length) % its.length], true);
});

for (const select of filters) select.addEventListener("change", () => { update(); choose(chosen.episode); });
for (const box of document.querySelectorAll(".filters input")) box.addEventListener("change", () => { update(); choose(chosen.episode); });

function fromAddress() {
  const size = (group) => group.policies.reduce((n, policy) => n + policy.episodes.length, 0);
  const { suite, split, executor } = DATA.groups.reduce((a, b) => (size(b) > size(a) ? b : a));
  update({ ...(location.hash ? {} : { suite, split, executor }), ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) });
  if (!chosen.episode && visible().length) choose(visible()[0]);
}

addEventListener("hashchange", fromAddress);
fromAddress();
