"use strict";
// Everything shown is put in as text: nothing of a guest's is ever parsed as HTML.
(() => {
  const summary = JSON.parse(document.getElementById("summary").textContent);
  const MARKS = { good: "✓", bad: "✗", skip: "–", broken: "!" };
  // the worst counts where several cells share a place
  const BADNESS = ["good", "skip", "bad", "broken"];
  const NONE = "", EACH = "each cell";

  const cells = summary.cells.map(([verdict, disagreement, outcome, reason, id, guest, wall], index) => ({
    // null: nothing is documented; empty: it is as documented
    index, disagreement, outcome, reason, id, guest, wall,
    verdict: summary.verdicts[verdict],
    unexpected: Boolean(disagreement),
  }));
  const axes = new Map(summary.axes.map((axis) => [axis.name, axis]));

  // ---- small things ----

  function el(tag, properties, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  const seconds = (ms, digits) => (ms / 1000).toFixed(digits);
  const pretty = (name) => name.replace(/^parameters\./, "").replaceAll("_", " ");

  // Make rows as they come into view, all of them before printing.
  const growing = new Set();
  function grow(parent, items, make, root) {
    let made = 0;
    const sight = new IntersectionObserver(
      (seen) => { if (seen.some((each) => each.isIntersecting)) upTo(made + 100); },
      { root: root || null, rootMargin: "600px" });
    function upTo(end) {
      sight.disconnect();
      for (; made < Math.min(end, items.length); made++) parent.append(make(items[made], made));
      if (made < items.length) sight.observe(parent.lastElementChild);
      else growing.delete(all);
    }
    const all = () => upTo(parent.isConnected ? items.length : 0);
    growing.add(all);
    upTo(100);
    return { at(index) { if (index >= made) upTo(index + 100); return parent.children[index]; } };
  }
  window.addEventListener("beforeprint", () => {
    for (const all of growing) all();
    growing.clear();
  });

  // ---- the state, kept in the address, so that a view can be linked to ----

  const state = { rows: NONE, rows2: NONE, columns: NONE, columns2: NONE, hidden: new Set(), unexpected: false,
    open: [], picking: false };
  const view = { tracks: new Set(summary.tracks), fromStimulus: true, differences: false };

  function chooseAxes() {
    const bySize = [...axes.values()].sort((one, other) => other.values.length - one.values.length);
    const asked = bySize.filter((axis) => !["start", "time", "boot", "case", "run"].includes(axis.name));
    const [first, second, third] = asked.length ? asked : bySize;
    state.rows = first ? first.name : EACH;
    state.columns = second ? second.name : NONE;
    if (third) state[third.values.length * second.values.length <= 24 ? "columns2" : "rows2"] = third.name;
    const places = [state.rows, state.rows2, state.columns, state.columns2].reduce(
      (product, name) => product * (axes.has(name) ? axes.get(name).values.length : 1), 1);
    // cells that have little in common make a sparse map: better a list
    if (places > 3 * cells.length) Object.assign(state, { rows: EACH, rows2: NONE, columns: NONE, columns2: NONE });
  }

  function remember() {
    const words = new URLSearchParams();
    for (const name of ["rows", "rows2", "columns", "columns2"]) words.set(name, state[name]);
    if (state.open.length) words.set("open", state.open.join("+"));
    history.replaceState(null, "", "#" + words);
  }

  function recall() {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const name of ["rows", "rows2", "columns", "columns2"]) {
      const axis = words.get(name);
      if (axis === NONE || axis === EACH || axes.has(axis)) state[name] = axis;
    }
    const open = (words.get("open") || "").split("+").map(Number);
    state.open = open.filter((index) => words.get("open") && index in cells).slice(0, 2);
  }

  // ---- the heat map ----

  function shown() {
    return cells.filter((cell) => !state.hidden.has(cell.verdict) && (!state.unexpected || cell.unexpected));
  }

  function label(name, cell) {
    return name === EACH ? cell.id : axes.get(name).values[axes.get(name).places[cell.index]];
  }

  function place(name, cell) {
    return name === EACH ? cell.index : axes.get(name).places[cell.index];
  }

  // Return the headings of one side: each with its labels, and a key by which cells find it.
  function headings(names, among) {
    const found = new Map();
    for (const cell of among) {
      const places = names.map((name) => place(name, cell));
      const key = places.join(",");
      if (!found.has(key)) found.set(key, { key, places, labels: names.map((name) => label(name, cell)) });
    }
    return [...found.values()].sort((one, other) => {
      const differs = one.places.findIndex((value, index) => value !== other.places[index]);
      return differs < 0 ? 0 : one.places[differs] - other.places[differs];
    });
  }

  function heading(scope, labels) {
    const [first, ...more] = labels;
    return el("th", { scope, className: "mono" }, first, ...more.map((text) => el("small", {}, text)));
  }

  let map = null;
  function drawMap() {
    const rowNames = [state.rows, state.rows2].filter((name) => name);
    const columnNames = [state.columns, state.columns2].filter((name) => name);
    const among = shown();
    const rows = headings(rowNames, among), columns = headings(columnNames, among);
    const at = new Map();
    for (const cell of among) {
      const key = [rowNames, columnNames].map((names) => names.map((name) => place(name, cell)).join(",")).join("/");
      if (!at.has(key)) at.set(key, []);
      at.get(key).push(cell);
    }
    const corner = el("td", {}, el("small", {}, [rowNames, columnNames].map((names) => names.map(pretty).join(", "))
      .filter((words) => words).join(" \\ ")));
    const head = el("tr", {}, corner, ...columns.map((column) =>
      heading("col", columnNames.length ? column.labels : ["verdict"])));
    const body = el("tbody");
    const holder = document.getElementById("map");
    const table = el("table", { "aria-label": "cells" }, el("thead", {}, head), body);
    holder.replaceChildren(among.length ? table : el("p", { className: "note" }, "No cell is shown."));
    const grower = grow(body, rows, (row, y) => el("tr", {}, heading("row", rowNames.length ? row.labels : ["all"]),
      ...columns.map((column, x) => {
        const there = at.get(`${row.key}/${column.key}`);
        return el("td", {}, there ? placeButton(there, x, y, [...row.labels, ...column.labels]) : null);
      })), holder);
    map = { rows, columns, grower, button: (x, y) => grower.at(y).children[x + 1].querySelector("button") };
    markOpen();
    const first = holder.querySelector("td button");
    if (first) first.tabIndex = 0;
  }

  function placeButton(there, x, y, labels) {
    const worst = there.reduce((one, other) =>
      BADNESS.indexOf(other.verdict) > BADNESS.indexOf(one.verdict) ? other : one);
    const unexpected = there.some((cell) => cell.unexpected);
    const words = there.length === 1 ? worst.outcome
      : BADNESS.map((verdict) => [verdict, there.filter((cell) => cell.verdict === verdict).length])
        .filter(([, count]) => count).map(([verdict, count]) => `${count}${MARKS[verdict]}`).join(" ");
    const button = el("button", { type: "button", tabIndex: -1,
      className: worst.verdict + (unexpected ? " unexpected" : ""),
      title: there.length === 1 ? worst.reason : `${there.length} cells`,
      "aria-label": `${labels.join(", ")}: ${there.length === 1 ? worst.verdict : words}, ${words}`
        + (unexpected ? ", not as expected" : "") },
      `${there.length === 1 ? MARKS[worst.verdict] + " " : ""}${words}${unexpected ? " ≠" : ""}`);
    button.dataset.x = x;
    button.dataset.y = y;
    button.there = there;
    return button;
  }

  function markOpen() {
    for (const button of document.querySelectorAll("#map td button")) {
      button.setAttribute("aria-current", button.there.some((cell) => state.open.includes(cell.index)));
    }
  }

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function move(from, [dx, dy]) {
    let x = Number(from.dataset.x) + dx, y = Number(from.dataset.y) + dy;
    for (; x >= 0 && y >= 0 && x < map.columns.length && y < map.rows.length; x += dx, y += dy) {
      const button = map.button(x, y);
      if (button) {
        from.tabIndex = -1;
        button.tabIndex = 0;
        button.focus();
        return;
      }
    }
  }

  document.getElementById("map").addEventListener("keydown", (event) => {
    const button = event.target.closest("td button");
    if (!button || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in MOVES) move(button, MOVES[event.key]);
    else if (event.key.toLowerCase() === "c") choose(button, true);
    else return;
    event.preventDefault();
  });
  document.getElementById("map").addEventListener("click", (event) => {
    const button = event.target.closest("td button");
    if (button) choose(button, state.picking || event.shiftKey);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && (state.open.length || state.picking)) close();
  });

  let origin = null;
  function choose(button, beside) {
    origin = button;
    if (button.there.length === 1) open(button.there[0].index, beside);
    else list(button.there, beside);
  }

  // Several cells share the place: let the reader say which.
  function list(there, beside) {
    const items = there.map((cell) => el("li", {}, el("button", { type: "button",
      onclick: () => open(cell.index, beside) }, badge(cell), ` ${cell.id}`)));
    const title = el("h2", { tabIndex: -1 }, `${there.length} cells stand here`);
    document.getElementById("opened").replaceChildren(title, el("ul", {}, ...items));
    title.focus();
  }

  // ---- what stands above the map ----

  function badge(cell) {
    return el("span", { className: `badge ${cell.verdict}` }, `${MARKS[cell.verdict]} ${cell.verdict}`);
  }

  function drawVerdicts() {
    const holder = document.getElementById("verdicts");
    const counts = summary.verdicts.map((verdict) => [verdict, cells.filter((cell) => cell.verdict === verdict).length]);
    const buttons = counts.filter(([, count]) => count).map(([verdict, count]) => el("button", { type: "button",
      className: verdict, "aria-pressed": !state.hidden.has(verdict),
      onclick: () => { state.hidden.has(verdict) ? state.hidden.delete(verdict) : state.hidden.add(verdict); draw(); } },
      `${MARKS[verdict]} ${count} ${verdict}`));
    const unexpected = cells.filter((cell) => cell.unexpected).length;
    const box = el("input", { type: "checkbox", checked: state.unexpected,
      onchange: (event) => { state.unexpected = event.target.checked; draw(); } });
    holder.replaceChildren(...buttons,
      unexpected ? el("label", {}, box, `only the ${unexpected} not as expected (≠)`) : "");
  }

  function drawAxes() {
    const options = [[NONE, "–"], ...[...axes.keys()].map((name) => [name, pretty(name)]), [EACH, EACH]];
    const select = (side, words) => el("label", {}, words, el("select", { id: side,
      onchange: (event) => { state[side] = event.target.value; draw(); } },
      ...options.map(([value, text]) => el("option", { value, selected: state[side] === value }, text))));
    const swap = el("button", { type: "button", id: "swap", onclick: () => {
      [state.rows, state.columns] = [state.columns, state.rows];
      [state.rows2, state.columns2] = [state.columns2, state.rows2];
      draw();
      document.getElementById("swap").focus();
    } }, "⇄ swap");
    document.getElementById("axes").replaceChildren(select("rows", "rows"), select("rows2", "and"), swap,
      select("columns", "columns"), select("columns2", "and"));
  }

  function drawCommon() {
    document.querySelector("#common table").replaceChildren(...summary.common.map(([name, value]) =>
      el("tr", {}, el("th", { scope: "row" }, pretty(name)), el("td", { className: "mono" }, value))));
    document.getElementById("common").open = cells.length === 1;
  }

  function draw() {
    drawVerdicts();
    drawAxes();
    drawMap();
    remember();
  }

  // ---- opened cells ----

  const blocks = new Map();
  function block(number) {
    if (!blocks.has(number)) blocks.set(number, unpack(document.getElementById(`block${number}`).textContent));
    return blocks.get(number);
  }

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function summed(steps) {
    let sum = 0;
    return steps.map((step) => (sum += step));
  }

  function records(packed, texts, before) {
    const line = summed(packed.line), stamp = summed(packed.stamp), wall = summed(packed.wall);
    return packed.text.map((text, index) => ({ line: line[index], stamp: stamp[index] / 1e6, text: texts[text],
      wall: before ? null : wall[index], level: Number(packed.level[index]) }));
  }

  async function detail(index) {
    const held = await block(Math.floor(index / summary.block));
    const packed = held.cells[index % summary.block];
    const log = [...records(held.histories[packed.history], held.texts, true),
      ...records(packed.log, held.texts, false)];
    const kernel = log.map((record) => ({ wall: record.wall, guest: record.stamp * 1e3, measured: true,
      track: "kernel", text: record.text, reference: `kernel.log:${record.line}` }));
    const others = packed.entries.map(([wall, guest, measured, track, text, reference, stimulus]) => ({ wall, guest,
      measured, track: summary.tracks[track], text: held.texts[text], reference, stimulus: Boolean(stimulus) }));
    const timeline = [...kernel, ...others].sort((one, other) => (one.wall ?? -1) - (other.wall ?? -1));
    return { cell: cells[index], facts: packed.facts, findings: packed.findings, log, lines: packed.lines, timeline,
      leftOut: packed.left_out };
  }

  let opening = 0;
  async function open(index, beside) {
    state.open = beside && state.open.length ? [state.open[0], index] : [index];
    state.picking = false;
    await drawOpened();
    const titles = document.querySelectorAll("#opened h2");
    if (!titles.length) return;
    titles[titles.length - 1].focus({ preventScroll: true });
    document.getElementById("opened").scrollIntoView({ block: "start" });
  }

  function close() {
    state.open = [];
    state.picking = false;
    drawOpened();
    if (origin && origin.isConnected) origin.focus();
  }

  async function drawOpened() {
    const mine = ++opening;
    const holder = document.getElementById("opened");
    markOpen();
    remember();
    let details;
    try {
      details = await Promise.all(state.open.map(detail));
    } catch (error) {
      holder.replaceChildren(el("p", { className: "note" }, `This browser cannot unpack the cell: ${error}`));
      return;
    }
    if (mine !== opening) return;
    const panes = details.map((own, index) => pane(own, details[1 - index], index));
    holder.replaceChildren(el("div", { className: panes.length === 2 ? "panes two" : "panes" }, ...panes));
  }

  // Numbers, addresses and stamps aside, is it the same?
  const blurred = (text) => text.replace(/0x[0-9a-f]+|[0-9]+/gi, "#");

  // Return a function that says of a text whether the other side has it: "", "changed" (other numbers) or "only".
  function comparison(texts) {
    if (!texts) return () => "";
    const exact = new Set(texts), alike = new Set(texts.map(blurred));
    return (text) => exact.has(text) ? "" : alike.has(blurred(text)) ? "changed" : "only";
  }

  function pane(own, other, index) {
    const cited = new Set(own.findings.flatMap(([, , , , quotes]) => quotes.map(([reference]) => reference)));
    const log = logView(own, other, cited);
    return el("article", { className: "pane" }, paneHead(own, index),
      findingsView(own, other, log), timelineView(own, other), log.view, factsView(own, other));
  }

  function paneHead({ cell }, index) {
    const pick = el("button", { type: "button", onclick: (event) => {
      state.picking = true;
      event.target.textContent = "choose the other cell in the map";
      document.getElementById("map").scrollIntoView({ block: "start" });
      const current = document.querySelector("#map td button[tabindex='0']");
      if (current) current.focus({ preventScroll: true });
    } }, "Compare with another cell");
    const shut = el("button", { type: "button", onclick: () => {
      state.open.splice(index, 1);
      state.open.length ? drawOpened() : close();
    } }, "Close");
    const expected = cell.disagreement === null ? "" : `${cell.disagreement || "as expected"}; `;
    const times = [cell.guest === null ? "" : `${cell.guest.toFixed(1)} s of the guest's time`,
      `${cell.wall.toFixed(1)} s of wall time`].filter((words) => words).join(", ");
    return el("header", {}, el("h2", { tabIndex: -1 }, badge(cell), ` ${cell.id}`),
      el("p", {}, cell.reason), el("p", { className: "note" }, `${expected}outcome ${cell.outcome}; ${times}`),
      el("div", { className: "controls" }, state.open.length < 2 && cells.length > 1 ? pick : null, shut));
  }

  function findingsView(own, other, log) {
    const theirs = other && new Map(other.findings.map(([subject, , observed]) => [subject + "\0" + observed, true]));
    const subjects = other && new Set(other.findings.map(([subject]) => subject));
    const rows = own.findings.map(([subject, expected, observed, evidence, quotes]) => {
      const mark = !other || theirs.has(subject + "\0" + observed) ? "" : subjects.has(subject) ? "changed" : "only";
      return el("tr", { className: mark }, el("td", {}, subject), el("td", {}, expected), el("td", {}, observed,
        ...quotes.map(([reference, text]) => el("details", { className: "evidence" },
          el("summary", {}, cite(reference, log)), el("pre", { className: "quote" }, readable(reference, text)))),
        quotes.length ? null : el("span", { className: "evidence" }, evidence)));
    });
    return el("section", {}, el("h3", {}, "Findings"), el("table", { className: "findings" },
      headRow("subject", "expected", "observed, and the lines it rests on"), el("tbody", {}, ...rows)));
  }

  // A command's output is one line of JSON in the journal: show its lines as lines.
  function readable(reference, text) {
    return reference.startsWith("shell.jsonl") ? text.replaceAll("\\n", "\n").replaceAll("\\t", "\t") : text;
  }

  function cite(reference, log) {
    if (!reference.startsWith("kernel.log:")) return reference;
    return el("a", { className: "cite", href: "#", onclick: (event) => {
      event.preventDefault();
      log.show(Number(reference.split(":")[1].split("-")[0]));
    } }, reference);
  }

  function headRow(...names) {
    return el("thead", {}, el("tr", {}, ...names.map((name) => el("th", { scope: "col" }, name))));
  }

  function timelineView(own, other) {
    const body = el("tbody");
    const frame = el("div", { className: "scroll" }, el("table", { className: "timeline" },
      headRow("wall s", "guest s", "who", "what"), body));
    const compare = comparison(other && other.timeline.map((entry) => entry.track + entry.text));
    const begin = own.timeline.findIndex((entry) => entry.stimulus);
    const note = el("p", { className: "note" });
    const entries = own.timeline.filter((entry, index) => view.tracks.has(entry.track)
      && !(view.fromStimulus && index < begin) && (!view.differences || !other || compare(entry.track + entry.text)));
    note.textContent = `${entries.length} of ${own.timeline.length} entries`
      + (own.leftOut ? `; ${own.leftOut} more are in the rundir alone` : "")
      + "; ~ marks a guest time that was interpolated between two the guest reported.";
    grow(body, entries, (entry) => el("tr", { title: entry.reference,
      className: `${entry.track} ${entry.stimulus ? "stimulus " : ""}${compare(entry.track + entry.text)}` },
      el("td", { className: "number mono" }, entry.wall === null ? "before" : seconds(entry.wall, 3)),
      el("td", { className: "number mono" },
        entry.guest === null ? "" : (entry.measured ? "" : "~") + seconds(entry.guest, 3)),
      el("td", { className: "who" }, entry.track), el("td", { className: "what mono" }, entry.text)), frame);
    return el("section", {}, el("h3", {}, "Timeline"), timelineControls(own, begin, other), frame, note);
  }

  function timelineControls(own, begin, other) {
    const toggle = (words, checked, set) => el("label", {}, el("input", { type: "checkbox", checked,
      onchange: (event) => { set(event.target.checked); drawOpened(); } }), words);
    const spoke = new Set([own, other].filter(Boolean).flatMap(({ timeline }) => timeline.map(({ track }) => track)));
    const tracks = summary.tracks.filter((track) => spoke.has(track)).map((track) => toggle(track, view.tracks.has(track),
      (on) => on ? view.tracks.add(track) : view.tracks.delete(track)));
    return el("div", { className: "controls" }, ...tracks,
      begin > 0 ? toggle("from the stimulus on", view.fromStimulus, (on) => { view.fromStimulus = on; }) : null,
      other ? toggle("only differences", view.differences, (on) => { view.differences = on; }) : null);
  }

  function logView(own, other, cited) {
    const lines = el("div", { className: "log mono" });
    const frame = el("div", { className: "scroll" }, lines);
    const compare = comparison(other && other.log.map((record) => record.text));
    const shown = own.log.filter((record) => !view.differences || !other || compare(record.text));
    const words = `Kernel log, ${own.lines} lines` + (own.log.length < own.lines ? ` (${own.log.length} kept)` : "")
      + (shown.length < own.log.length ? `, ${shown.length} of them different` : "");
    const folder = el("details", {}, el("summary", {}, el("h3", {}, words)), frame);
    let grower = null;
    const fill = () => {
      grower ??= grow(lines, shown, (record) => el("div", { className: [
        record.level <= 3 ? "grave" : record.level === 4 ? "warning" : "",
        cited.has(`kernel.log:${record.line}`) ? "cited" : "", compare(record.text)].join(" ") },
        el("span", { className: "number" }, `${String(record.line).padStart(4)} `),
        `[${record.stamp.toFixed(6).padStart(12)}] ${record.text}`), frame);
    };
    folder.addEventListener("toggle", () => { if (folder.open) fill(); });
    function show(line) {
      const index = shown.findIndex((record) => record.line === line);
      folder.open = true;
      fill();
      if (index >= 0) grower.at(index).scrollIntoView({ block: "center" });
    }
    return { view: el("section", {}, folder), show };
  }

  function factsView(own, other) {
    const theirs = other && new Map(other.facts);
    const rows = own.facts.map(([name, value]) => el("tr", {
      className: !theirs || theirs.get(name) === value ? "" : theirs.has(name) ? "changed" : "only" },
      el("th", { scope: "row" }, pretty(name)), el("td", { className: "mono" }, value)));
    const folder = el("details", {}, el("summary", {}, el("h3", {}, "What was run")),
      el("table", { className: "facts" }, el("tbody", {}, ...rows)));
    folder.open = Boolean(other);
    return el("section", {}, folder);
  }

  // On paper nothing can be unfolded: all but the kernel logs is printed, and folded again afterwards.
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details:not([open])")].filter((each) => !each.querySelector(".log"));
    for (const each of unfolded) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of unfolded) each.open = false; });

  // ---- begin ----

  document.getElementById("told").textContent =
    `${cells.length} ${cells.length === 1 ? "cell" : "cells"}, made ${summary.made} by testbed ${summary.version}`;
  chooseAxes();
  recall();
  drawCommon();
  draw();
  if (cells.length === 1 && !state.open.length) state.open = [0];
  const linked = cells.length > 1 && state.open.length;
  drawOpened().then(() => {
    if (linked) document.getElementById("opened").scrollIntoView();
    document.documentElement.setAttribute("data-ready", "");
  });
})();
