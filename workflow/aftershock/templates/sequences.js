// Sequences of edits: a map of methods and tasks at a chosen checkpoint, and single items before and after.
const SHOWN = {
  retained: ["share retained", (v) => Math.round(100 * v) + SPACE + "%"],
  value: ["score", (v) => v.toFixed(2)],
  difference: ["difference from unedited", (v) => (v > 0 ? "+" : "") + minus(v.toFixed(2))],
};
const BESIDE = {
  latest: ["latest edits hold", (v) => Math.round(100 * v) + SPACE + "%"],
  survival: ["earlier edits hold", (v) => Math.round(100 * v) + SPACE + "%"],
  perplexity: ["perplexity ratio", (v) => String(Number(v.toPrecision(3)))],
  seconds: ["seconds so far", (v) => String(Number(v.toPrecision(3)))],
};

// A quieter or louder ground the more is lost: 0 for nothing, 1 for all.
const loss = (map, at, shown) => {
  const { retained, difference, value } = map.values;
  if (retained[at] != null) return Math.min(1, Math.max(0, 1 - retained[at]));
  return shown === "difference" && difference[at] != null && value[at] != null ? Math.min(1, Math.max(0, -difference[at])) : 0;
};

class HeatMap {
  constructor(place, maps) {
    this.maps = maps;
    this.map = 0;
    this.shown = "retained";
    this.body = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Methods and tasks" });
    this.controls = make("div", { class: "controls", role: "group", "aria-label": "What the map shows" });
    place.replaceChildren(this.controls, this.body);
    this.choose(0);
    methods.follow(() => this.draw());
  }

  choose(map) {
    this.map = map;
    this.at = this.lastOfAll(this.maps[map]);
    const plans = this.maps.map((each, i) => option(String(i), each.model + ", " + each.plan));
    const points = this.maps[map].checkpoints.map((c, i) => option(String(i), whole(c) + " edits"));
    const made = [
      this.maps.length > 1 && chooser("sequence", plans, (value) => this.choose(Number(value))),
      chooser("after", points, (value) => { this.at = Number(value); this.draw(); }),
      chooser("show", Object.entries(SHOWN).map(([name, [text]]) => option(name, text)), (value) => { this.shown = value; this.draw(); }),
    ].filter(Boolean);
    if (this.maps.length > 1) made[0].querySelector("select").value = String(map);
    made[made.length - 2].querySelector("select").value = String(this.at);
    made[made.length - 1].querySelector("select").value = this.shown;
    this.controls.replaceChildren(...made);
    this.draw();
  }

  // The last checkpoint that every sequence reached; the last of all where none did.
  lastOfAll(map) {
    const { value } = map.values;
    const number = map.checkpoints.length;
    for (let at = number - 1; at > 0; at--) {
      if (value.every((v, place) => v != null || place % number !== at)) return at;
    }
    return number - 1;
  }

  draw() {
    const map = this.maps[this.map];
    const beside = Object.keys(BESIDE).filter((name) => map.beside[name]);
    const heads = map.tasks.map((task) => make("th", { scope: "col", class: task.weak ? "weak" : "" },
      label(task.title), make("small", {}, task.metric + (task.weak ? "; no better than by accident" : ""))));
    const head = make("tr", {}, make("td", {}), heads, beside.map((name) => make("th", { scope: "col" }, BESIDE[name][0])));
    const before = make("tr", {}, make("th", { scope: "row" }, "unedited"), map.tasks.map((task) => make("td", { class: task.weak ? "weak" : "" },
      task.levels[0] == null ? "\u2013" : task.levels[0].toFixed(2), task.levels[1] != null && make("small", {}, "by accident " + task.levels[1].toFixed(2)))),
    beside.map(() => make("td", {})));
    const rows = map.editors.map((editor, e) => [editor, e]).filter(([editor]) => methods.shown(editor)).map(([editor, e]) =>
      make("tr", {}, make("th", { scope: "row" }, label(editor)), map.tasks.map((task, t) => this.cell(map, task, e, t)), beside.map((name) => {
        const value = map.beside[name][e * map.checkpoints.length + this.at];
        return make("td", {}, value == null ? "\u2013" : BESIDE[name][1](value));
      })));
    this.body.replaceChildren(make("table", { class: "heat" }, make("thead", {}, head), make("tbody", {}, before, rows)));
  }

  cell(map, task, e, t) {
    const at = (e * map.tasks.length + t) * map.checkpoints.length + this.at;
    const value = map.values[this.shown][at];
    const score = map.values.value[at];
    if (score == null) return make("td", { class: "none", title: "the sequence had ended, or was not measured here" }, "\u2013");
    const parsed = map.values.parsed[at];
    const about = "score " + score.toFixed(3) + " (" + figure(map.values.low[at]) + " to " + figure(map.values.high[at]) + ")" +
      (parsed == null ? "" : "\n" + Math.round(100 * parsed) + " % of answers could be read") +
      (map.values.entropy[at] == null ? "" : "\nentropy of answers " + map.values.entropy[at].toFixed(2) + " bits");
    const text = value == null ? "\u2013" : SHOWN[this.shown][1](value);
    const node = make("td", { class: task.weak ? "weak" : "", tabindex: "0", "data-about": about }, text, map.significant[at] && make("abbr", { title: "told from the unedited model" }, "*"));
    if (!task.weak) node.style.setProperty("--loss", loss(map, at, this.shown).toFixed(2));
    return node;
  }
}

class Items {
  constructor(place, given) {
    this.given = given;
    [this.plan, this.task, this.item] = [0, 0, 0];
    this.body = make("div", {});
    this.controls = make("div", { class: "controls", role: "group", "aria-label": "Choose an item" });
    place.replaceChildren(this.controls, this.body);
    methods.follow(() => this.draw());
    this.choose();
  }

  choose() {
    const plan = this.given.plans[this.plan];
    const pick = (name, texts, key, rest) => {
      const made = chooser(name, texts.map((text, i) => option(String(i), text)), (value) => { this[key] = Number(value); rest.forEach((each) => { this[each] = 0; }); this.choose(); });
      made.querySelector("select").value = String(this[key]);
      return made;
    };
    const items = plan.tasks[this.task].items;
    this.controls.replaceChildren(...[
      this.given.plans.length > 1 && pick("sequence", this.given.plans.map((p) => p.model + ", " + p.plan), "plan", ["task", "item"]),
      pick("task", plan.tasks.map((task) => task.title), "task", ["item"]),
      pick("item", items.map((item, i) => i + 1 + ": " + this.given.words[item.question].slice(-60)), "item", []),
    ].filter(Boolean));
    this.draw();
  }

  draw() {
    const plan = this.given.plans[this.plan];
    const item = plan.tasks[this.task].items[this.item];
    const words = this.given.words;
    const rows = plan.editors.map((editor, e) => [editor, e]).filter(([editor]) => methods.shown(editor)).map(([editor, e]) =>
      make("tr", {}, make("th", { scope: "row" }, label(editor)), item.said[e].map((said) => this.said(said))));
    const head = make("tr", {}, make("td", {}), plan.checkpoints.map((c) => make("th", { scope: "col" }, c ? "after " + whole(c) : "unedited")));
    this.body.replaceChildren(
      make("pre", { class: "asked", tabindex: "0" }, visible(words[item.question])),
      make("p", {}, "Right: ", make("bdi", { class: "said" }, visible(words[item.gold]))),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Answers" }, make("table", { class: "answers" }, make("thead", {}, head), make("tbody", {}, rows))));
  }

  said(said) {
    if (!said) return make("td", { class: "none" }, "ended");
    const [text, value] = said;
    const mark = value == null ? "" : value === 1 ? "\u2713" : value === 0 ? "\u2717" : value.toFixed(2);
    return make("td", {}, make("bdi", { class: "said" }, visible(this.given.words[text]) || "(nothing)"), make("small", { class: value === 1 ? "tick" : "" }, mark));
  }
}

function startSequences() {
  const place = document.getElementById("heat");
  if (place && page.sequences.maps.length) new HeatMap(place, page.sequences.maps);
  const single = document.getElementById("items");
  if (single && page.sequences.items.plans.length) new Items(single, page.sequences.items);
}
