// The case explorer: choose among all case-method pairs, and see one with every probe in every state.
const LISTED = 20;
const index = JSON.parse(document.getElementById("index").textContent);

// --- chunks: in the page, or scripts beside it that hand themselves over --------------------------------
const chunks = new Map();
const awaited = new Map();

function takeCases(number, chunk) {
  chunks.set(number, chunk);
}

function loadChunk(number) {
  if (chunks.has(number)) return Promise.resolve(chunks.get(number));
  if (index.inside) {
    chunks.set(number, JSON.parse(document.getElementById("chunk-" + number).textContent));
    return Promise.resolve(chunks.get(number));
  }
  if (!awaited.has(number)) {
    awaited.set(number, new Promise((resolve, reject) => {
      const file = "cases/" + String(number).padStart(3, "0") + ".js";
      const fail = () => { awaited.delete(number); reject(new Error(file)); };
      const script = make("script", { src: file, error: fail, load: () => (chunks.has(number) ? resolve(chunks.get(number)) : fail()) });
      document.head.append(script);
    }));
  }
  return awaited.get(number);
}

// --- pairs ----------------------------------------------------------------------------------------------
const [NONE, NO, YES] = [0, 1, 2];
const digit = (flags, place) => (flags < 0 ? NONE : Math.floor(flags / 4 ** place) % 4);

const settings = index.settings.map((given) => ({
  ...given,
  rules: Uint32Array.from(given.rules),
  subjects: Uint32Array.from(given.subjects),
  targets: Uint32Array.from(given.targets),
  strict: Uint8Array.from(given.strict),
  runs: given.runs.map((run) => ({ ...run, flags: Int32Array.from(run.flags) })),
}));
const lower = index.words.map((word) => word.toLowerCase());
const distinct = (values) => [...new Set(values)];

// The cases of which `wanted` lets a run through: places of the setting, the case and these runs.
function matching(wanted) {
  const needle = wanted.text.trim().toLowerCase();
  const hits = needle ? Uint8Array.from(lower, (word) => word.includes(needle)) : null;
  const number = /^\d+$/.test(needle) ? Number(needle) : -1;
  const rule = index.words.indexOf(wanted.rule);
  const [outcome, answer] = wanted.outcome ? wanted.outcome.split(":") : [null, null];
  const found = [];
  settings.forEach((setting, s) => {
    if (wanted.dataset && setting.dataset !== wanted.dataset) return;
    if (wanted.model && setting.model !== wanted.model) return;
    const runs = setting.runs.map((run, r) => [run, r]).filter(([run]) => methods.shown(run.editor) &&
      (!wanted.editor || run.editor === wanted.editor) && (!wanted.seed || String(run.seed) === wanted.seed));
    const asked = Object.entries(wanted.facets).filter(([, word]) => word);
    for (let c = 0; c < setting.cases.length; c++) {
      if (!asked.every(([facet, word]) => setting.facets[facet] && index.words[setting.facets[facet][c]] === word)) continue;
      if (wanted.strict && !setting.strict[c]) continue;
      if (wanted.rule && setting.rules[c] !== rule) continue;
      if (hits && !hits[setting.subjects[c]] && !hits[setting.targets[c]] && setting.cases[c] !== number) continue;
      const fitting = runs.filter(([run]) => fits(run.flags[c], outcome, answer)).map(([, r]) => r);
      if (fitting.length) found.push({ s, c, runs: fitting });
    }
  });
  return found;
}

// Values of a case under some runs; empty for a metric that they do not have.
const valuesOf = (setting, runs, name, c) =>
  runs.map((r) => (setting.runs[r].values[name] || [])[c]).filter((value) => value != null);

// What a case is sorted by: the mean over methods, or how far they lie apart; null without a value.
function sortKey({ s, c, runs }, name, how) {
  const values = valuesOf(settings[s], runs, name, c);
  if (!values.length) return null;
  return how === "apart" ? Math.max(...values) - Math.min(...values) : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function inOrder(found, sort) {
  if (!sort) return found;
  const [name, how] = sort.split(":");
  const keyed = found.map((one, place) => [one, sortKey(one, name, how), place]);
  const sign = how === "lowest" ? 1 : -1;
  keyed.sort(([, a, i], [, b, j]) => (a == null || b == null ? (a == null) - (b == null) : sign * (a - b)) || i - j);
  return keyed.map(([one]) => one);
}

// The case on which the page opens, with the reason: methods differ most there, or one method's conflict is the greatest.
function tellingCase() {
  for (const { name, title } of index.sorts) {
    let best = null;
    settings.forEach((setting, s) => {
      const runs = setting.runs.map((_, r) => r).filter((r) => setting.runs[r].values[name]);
      for (let c = 0; c < setting.cases.length; c++) {
        const values = runs.map((r) => setting.runs[r].values[name][c]);
        const seen = values.filter((value) => value != null);
        if (!seen.length) continue;
        const size = runs.length > 1 ? Math.max(...seen) - Math.min(...seen) : seen[0];
        if (size > 0 && (!best || size > best.size)) best = { s, c, size, runs, values };
      }
    });
    if (!best) continue;
    const better = (page.metrics[name] || {}).better;
    const known = best.values.map((value, i) => [value, best.runs[i]]).filter(([value]) => value != null).sort(([a], [b]) => a - b);
    const [lowest, highest] = [known[0], known[known.length - 1]];
    const said = ([value, r]) => figure(value, unitOf(name), true) + " (" + settings[best.s].runs[r].editor + ")";
    const why = known.length > 1
      ? "Shown first because methods differ most here in " + title + ": from " + said(lowest) + " to " + said(highest) + "."
      : "Shown first because its " + title + " is the greatest: " + said(lowest) + ".";
    return { pair: [best.s, better === "down" ? highest[1] : lowest[1], best.c], why };
  }
  return null;
}

function fits(flags, outcome, answer) {
  if (!outcome) return true;
  return outcome === "missing" ? flags < 0 : digit(flags, Number(outcome)) === Number(answer);
}

const address = ([s, r, c]) => {
  const setting = settings[s];
  const run = setting.runs[r];
  return "#case=" + [setting.model, setting.dataset, run.editor, run.seed, setting.cases[c]].map(encodeURIComponent).join("/");
};

// The pair that an address names, or null.
function pairAt(hash) {
  if (!hash.startsWith("#case=")) return null;
  let parts;
  try { parts = hash.slice(6).split("/").map(decodeURIComponent); } catch { return null; }
  const [model, dataset, editor, seed, id] = parts;
  const s = settings.findIndex((setting) => setting.model === model && setting.dataset === dataset);
  if (s < 0) return null;
  const r = settings[s].runs.findIndex((run) => run.editor === editor && String(run.seed) === seed);
  const c = settings[s].cases.indexOf(Number(id));
  return r < 0 || c < 0 ? null : [s, r, c];
}

const datasetWords = (name) => page.datasets[name] || name;
const same = (a, b) => a && b && a.every((part, i) => part === b[i]);

const NAMED = 8; // methods up to which the list has a link to each

// --- the explorer ---------------------------------------------------------------------------------------
class Explorer {
  constructor(place) {
    this.wanted = { dataset: "", model: "", editor: "", seed: "", rule: "", strict: false, outcome: "", text: "", facets: {}, sort: "" };
    this.from = 0;
    this.open = null;
    this.status = make("p", { class: "status", role: "status" });
    this.list = make("ol", { class: "pairs", "aria-label": "Cases", keydown: (event) => this.walk(event) });
    this.pager = make("div", { class: "pager" });
    this.detail = make("div", { class: "case" }, make("p", { class: "note" }, "Choose a case to see its edits and every probe."));
    place.replaceChildren(this.controls(), make("div", { class: "split" }, make("div", { class: "side" }, this.status, this.list, this.pager), this.detail));
    this.pairs = settings.reduce((sum, setting) => sum + setting.cases.length * setting.runs.length, 0);
    this.filter();
    methods.follow(() => this.want("text", this.wanted.text));
    addEventListener("hashchange", () => this.follow(true));
    if (location.hash.startsWith("#case=")) this.follow(false);
    else this.openTelling();
  }

  controls() {
    const runs = settings.flatMap((setting) => setting.runs);
    const choices = [
      ["setting", "dataset", distinct(settings.map((s) => s.dataset)), datasetWords],
      ["model", "model", distinct(settings.map((s) => s.model))],
      ["method", "editor", distinct(runs.map((run) => run.editor))],
      ["seed", "seed", distinct(runs.map((run) => String(run.seed)))],
      ["rule", "rule", distinct(settings.flatMap((s) => [...s.rules])).map((code) => index.words[code]).sort(collator.compare)],
    ];
    const made = choices.filter(([name, , options]) => options.length > 1 || name === "setting" || name === "method").map(([name, key, options, words]) =>
      chooser(name, [option("", "any"), ...options.map((value) => option(value, words ? words(value) : value))], (value) => this.want(key, value)));
    const groups = index.outcomes.map((outcome) => make("optgroup", { label: outcome.words },
      option(outcome.place + ":" + YES, "yes: " + outcome.words), option(outcome.place + ":" + NO, "no: " + outcome.words)));
    if (settings.some((s) => s.runs.some((run) => run.flags.includes(-1)))) groups.push(option("missing:1", "not observed"));
    made.push(chooser("outcome", [option("", "any"), ...groups], (value) => this.want("outcome", value)));
    if (settings.some((setting) => setting.strict.includes(0))) {
      made.push(chooser("cases", [option("", "all"), option("strict", "strict ones")], (value) => this.want("strict", value !== "")));
    }
    for (const [facet, words] of Object.entries(index.facets)) {
      const codes = distinct(settings.flatMap((s) => s.facets[facet] || [])).filter((code) => code >= 0);
      const levels = codes.map((code) => index.words[code]).sort(collator.compare);
      if (levels.length > 1) made.push(chooser(words, [option("", "any"), ...levels.map((level) => option(level, level))], (value) => {
        this.wanted.facets[facet] = value;
        this.want("text", this.wanted.text);
      }));
    }
    const several = settings.some((setting) => setting.runs.length > 1);
    const orders = index.sorts.map(({ name, title }) => make("optgroup", { label: title }, several && option(name + ":apart", title + ": methods differ most"),
      option(name + ":highest", title + ": highest first"), option(name + ":lowest", title + ": lowest first")));
    if (orders.length) made.push(chooser("order", [option("", "by number"), ...orders], (value) => this.want("sort", value)));
    const field = make("input", { type: "search", placeholder: "subject, object or number", input: () => this.want("text", field.value) });
    made.push(make("label", {}, make("span", {}, "find"), field));
    return make("div", { class: "controls", role: "group", "aria-label": "Filter cases" }, made);
  }

  want(key, value) {
    this.wanted[key] = value;
    this.from = 0;
    this.filter();
  }

  filter() {
    this.found = inOrder(matching(this.wanted), this.wanted.sort);
    this.draw();
  }

  draw() {
    const last = Math.min(this.from + LISTED, this.found.length);
    const shown = this.found.reduce((sum, { runs }) => sum + runs.length, 0);
    this.status.textContent = whole(shown) + " of " + whole(this.pairs) + " case-method pairs, " + whole(this.found.length) + " cases";
    this.list.replaceChildren(...this.found.slice(this.from, last).map((found) => this.item(found)));
    const turn = (by) => () => { this.from += by; this.draw(); };
    const back = make("button", { type: "button", disabled: this.from === 0, click: turn(-LISTED) }, "Previous");
    const on = make("button", { type: "button", disabled: last === this.found.length, click: turn(LISTED) }, "Next");
    const where = this.found.length ? whole(this.from + 1) + "\u2013" + whole(last) : "none";
    this.pager.replaceChildren(back, make("span", {}, where), on);
  }

  item({ s, c, runs }) {
    const setting = settings[s];
    const edit = [label(index.words[setting.subjects[c]]), " \u2192 ", label(index.words[setting.targets[c]])];
    const where = datasetWords(setting.dataset) + ", case " + setting.cases[c];
    const current = this.open && this.open[0] === s && runs.includes(this.open[1]) ? this.open[1] : runs[0];
    const named = runs.length > NAMED ? [current] : runs; // a case that is open has links to all
    const links = named.map((r) => {
      const pair = [s, r, c];
      const open = same(pair, this.open);
      const absent = setting.runs[r].flags[c] < 0;
      return make("a", { href: address(pair), "aria-current": open && "true", "aria-label": where + ", " + setting.runs[r].editor, class: absent && "absent" }, visible(runName(setting.runs[r], setting)));
    });
    return make("li", {}, make("span", {}, edit), make("small", {}, where), make("span", { class: "methods" }, links,
      named.length < runs.length && make("small", {}, "and " + whole(runs.length - 1) + " more methods")));
  }

  // Up and down move through the list.
  walk(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const links = [...this.list.querySelectorAll("a")];
    const next = by && links[links.indexOf(document.activeElement) + by];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  follow(asked) {
    const pair = pairAt(location.hash);
    if (pair) this.show(pair, asked);
    else if (location.hash.startsWith("#case=")) this.say("This page has no case at " + location.hash.slice(6) + ".");
  }

  async openTelling() {
    const telling = tellingCase();
    if (telling) await this.show(telling.pair, false, telling.why);
  }

  say(text) {
    this.detail.replaceChildren(make("p", { class: "mark", role: "alert" }, visible(text)));
  }

  async show(pair, asked, why) {
    const [s, , c] = this.open = pair;
    const setting = settings[s];
    const place = setting.first + Math.floor(c / setting.size);
    let chunk;
    try {
      chunk = await loadChunk(place);
    } catch (error) {
      return this.say(error.message + " is not beside this page; keep the folder cases/ next to it.");
    }
    if (this.open !== pair) return;
    const record = chunk.cases[c % setting.size];
    if (record.id !== setting.cases[c]) return this.say("The folder cases/ belongs to another page; write the report again.");
    const reason = why ? [make("p", { class: "note" }, visible(why))] : [];
    this.detail.replaceChildren(...reason, ...caseView(pair, record, chunk, this.neighbours(pair)));
    const at = this.found.findIndex((found) => found.s === s && found.c === c);
    if (at >= 0) this.from = at - (at % LISTED);
    this.draw();
    if (why) return;
    if (asked) this.detail.querySelector("h3").focus({ preventScroll: true });
    const top = this.detail.getBoundingClientRect().top;
    if (!asked || top < 0 || top > innerHeight / 2) this.detail.scrollIntoView();
  }

  // The cases before and after in the list, under the same method where the list has it.
  neighbours([s, r, c]) {
    const at = this.found.findIndex((found) => found.s === s && found.c === c);
    return (at < 0 ? [] : [at - 1, at + 1]).map((place) => {
      const next = this.found[place];
      return next && [next.s, next.s === s && next.runs.includes(r) ? r : next.runs[0], next.c];
    });
  }
}

// --- one case -------------------------------------------------------------------------------------------
function caseView(pair, record, chunk, [before, after]) {
  const [s, r, c] = pair;
  const setting = settings[s];
  const run = setting.runs[r];
  const word = (place) => chunk.words[place];
  const title = [datasetWords(setting.dataset), "case " + record.id, run.editor].join(" · ");
  const more = [settings.some((other) => other.model !== setting.model) && setting.model, index.words[setting.rules[c]],
    setting.strict.includes(0) && (setting.strict[c] ? "strict: old and new cannot both hold" : "not strict: old and new could both hold")];
  const links = setting.runs.map((other, place) => make("a", { href: address([s, place, c]), "aria-current": place === r && "true" }, visible(runName(other, setting))));
  const step = (to, text) => to && make("a", { href: address(to) }, text);
  const own = record.runs[r];
  return [
    make("h3", { tabindex: "-1" }, visible(title)),
    make("p", { class: "note" }, visible(more.filter(Boolean).join(" · "))),
    make("p", { class: "methods" }, "Same case: ", links, step(before, "\u2190 previous"), step(after, "next \u2192")),
    run.flags[c] < 0 && make("p", { class: "mark" }, "This run has no observations of this case."),
    own.why && make("ul", { class: "mark" }, own.why.map(([state, why]) => make("li", {}, (index.states[state] || [state])[0] + ": ", label(word(why))))),
    outcomeList(run.flags[c]),
    ...editList(record, word),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Probes" }, probeTable(record, own, word)),
    make("p", { class: "note" }, "Each number is a probability: the mean over the fact's wordings, or of the edit's own where it says so. \u2713: greedy decoding gives this object."),
    ...metricTables(chunk.metrics[r], own.m),
  ].filter(Boolean);
}

const runName = (run, setting) => run.editor + (setting.runs.some((other) => other.editor === run.editor && other.seed !== run.seed) ? " (seed " + run.seed + ")" : "");

function outcomeList(flags) {
  const said = index.outcomes.map((outcome) => [outcome, digit(flags, outcome.place)])
    .filter(([outcome, answer]) => answer === YES || (answer === NO && outcome.name !== "edit_failed"));
  return said.length > 0 && make("ul", { class: "outcomes" }, said.map(([outcome, answer]) => {
    const text = make("a", { href: "#metric-" + outcome.name, class: "term", "data-about": outcome.about }, outcome.words);
    return make("li", { class: answer === YES ? "is" : "isnot" }, make("b", {}, answer === YES ? "\u2713 " : "\u2717 ", make("span", { class: "unseen" }, answer === YES ? "yes: " : "no: ")), text);
  }));
}

// A template with its subject, whatever either holds.
function filled(template, subject) {
  const cut = template.indexOf("{}");
  if (cut < 0) return [label(subject), " ", label(template)];
  return [visible(template.slice(0, cut)), label(subject), visible(template.slice(cut + 2))];
}

function editList(record, word) {
  const edits = record.edits.map((places) => places.map(word));
  const line = ([kind, template, subject, old, written]) => make("li", {}, make("b", {}, (index.edits[kind] || kind) + ": "),
    filled(template, subject), " ", old && make("del", {}, label(old)), old && " ", make("ins", {}, label(written)));
  const own = edits.filter(([kind]) => kind === "e1" || kind === "e2");
  const others = edits.filter(([kind]) => kind !== "e1" && kind !== "e2");
  return [
    make("ul", { class: "edits" }, own.map(line)),
    others.length > 0 && make("details", {}, make("summary", {}, "Other edits made from this case"), make("ul", { class: "edits" }, others.map(line))),
  ];
}

function probeTable(record, own, word) {
  const states = Object.keys(index.states).filter((state) => state === "0" || own.p[state]);
  const head = make("tr", {}, make("th", { scope: "col", class: "text" }, "Probe"), states.map((state) => {
    const [words, about] = index.states[state];
    return make("th", { scope: "col" }, make("span", { class: "term", tabindex: "0", "data-about": about }, words));
  }));
  const bodies = index.groups.map((group, place) => {
    const rows = record.probes.map((probe, i) => [probe, i]).filter(([probe]) => probe[0] === place);
    return rows.length > 0 && make("tbody", {},
      make("tr", { class: "group" }, make("th", { colspan: states.length + 1, scope: "rowgroup", class: "text" }, group)),
      rows.map(([probe, i]) => probeRow(probe, i, states, record, own, word)));
  });
  return make("table", { class: "probes" }, make("caption", { class: "unseen" }, "Probability of every probe in every state"), make("thead", {}, head), bodies);
}

function probeRow([, role, template, subject, object, editOnly], i, states, record, own, word) {
  const fact = make("th", { scope: "row", class: "text" }, filled(word(template), word(subject)), " ", make("strong", {}, label(word(object))),
    make("small", {}, word(role) + (editOnly ? "; one wording only" : "")));
  return make("tr", {}, fact, states.map((state) => {
    const value = state === "0" ? record.before[i] : own.p[state][i];
    const said = own.c && own.c[state] && own.c[state][i] >= 0 ? word(own.c[state][i]) : "";
    const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("i"));
    bar.firstChild.style.width = 100 * (value || 0) + "%";
    const exact = own.x[state] && own.x[state][i] === "1";
    return make("td", {}, make("b", {}, chance(value)), exact && make("span", { class: "tick", title: "the greedy answer" }, SPACE + "\u2713"), bar,
      said && make("q", {}, label(said.trim())));
  }));
}

function metricTables(names, values) {
  const rows = names.map((name, i) => [name, values[i]]).filter(([, value]) => value != null);
  const line = ([name, value]) => make("tr", {}, make("th", { scope: "row", class: "text" }, term(name, (page.metrics[name] || {}).title || name)), make("td", {}, figure(value, unitOf(name), true)));
  const table = (part, about) => make("table", { class: "metrics" }, make("caption", { class: "unseen" }, about), make("tbody", {}, part.map(line)));
  const main = rows.filter(([name]) => page.main.includes(name));
  const rest = rows.filter(([name]) => !page.main.includes(name));
  return [
    main.length > 0 && make("h4", {}, "Metrics of this case"),
    main.length > 0 && table(main, "Main metrics"),
    rest.length > 0 && make("details", {}, make("summary", {}, "All " + whole(rows.length) + " metrics"), table(rest, "Further metrics")),
  ];
}
