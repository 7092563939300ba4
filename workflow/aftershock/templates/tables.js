// One component for every table: it shows, sorts, filters and gives back columns (see page/columns.py).
const ROWS = 50;
const collator = new Intl.Collator("en", { numeric: true });

const named = (column, code) => (column.shown || column.words)[code];

// The sortable value of each row; texts by their place in the alphabet.
function sortKeys(column) {
  if (column.kind === "estimate") return column.value;
  if (column.kind !== "text") return column.values.map((value) => (value == null ? null : Number(value)));
  const order = column.words.map((_, code) => code).sort((a, b) => collator.compare(named(column, a), named(column, b)));
  const rank = [];
  order.forEach((code, place) => { rank[code] = place; });
  return column.codes.map((code) => (column.words[code] === "" ? null : rank[code]));
}

class TableView {
  constructor(spec) {
    this.spec = spec;
    this.columns = spec.columns;
    this.byId = new Map(this.columns.map((column) => [column.id, column]));
    this.sort = this.byId.get(spec.sort) || null;
    this.falling = false;
    this.text = "";
    this.from = 0;
    this.chosen = new Map();
    for (const [id, word] of Object.entries(spec.chosen || {})) {
      const code = this.byId.has(id) ? this.byId.get(id).words.indexOf(word) : -1;
      if (code >= 0) this.chosen.set(this.byId.get(id), code);
    }
    // Tables out of sight are not laid out (report.css): their height is about that of their rows.
    const row = this.columns.some((column) => column.kind === "estimate") ? 4.2 : 2.4;
    const height = 8 + row * Math.min(spec.rows, ROWS);
    this.node = make("div", { class: "table", id: "table-" + spec.id, style: "contain-intrinsic-height: auto " + height + "rem" });
    this.heading = make("h3", { id: "title-" + spec.id }, visible(spec.title));
    this.status = make("p", { class: "status", role: "status" });
    this.body = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": "title-" + spec.id });
    this.pager = make("div", { class: "pager" });
    const marks = (spec.marks || []).map((text) => make("p", { class: "mark" }, visible(text)));
    const caption = spec.caption && make("p", { class: "note" }, visible(spec.caption));
    this.node.append(this.heading, ...marks, caption || "", this.controls(), this.body, this.pager, this.files());
    this.draw();
    methods.follow(() => this.restart());
  }

  controls() {
    const made = this.columns.filter((c) => c.kind === "text" && this.choosable(c)).map((column) => {
      const codes = column.words.map((_, code) => code);
      if (column.id === "level") codes.sort((a, b) => collator.compare(named(column, a), named(column, b)));
      const options = codes.map((code) => option(String(code), named(column, code) || "(none)"));
      const label = chooser(column.label, [option("-1", "any"), ...options], (value) => {
        if (value === "-1") this.chosen.delete(column);
        else this.chosen.set(column, Number(value));
        this.restart();
      });
      label.querySelector("select").value = String(this.chosen.has(column) ? this.chosen.get(column) : -1);
      return label;
    });
    if (this.spec.rows > 12) {
      const field = make("input", { type: "search", input: () => { this.text = field.value.toLowerCase(); this.restart(); } });
      made.push(make("label", {}, make("span", {}, "find"), field));
    }
    return make("div", { class: "controls", role: "group", "aria-label": "Filter " + this.spec.title }, made);
  }

  choosable(column) {
    const words = column.words.length;
    return !column.free && words > 1 && words <= 300 && (this.chosen.has(column) || words * 1.5 <= this.spec.rows);
  }

  files() {
    const shown = make("button", { type: "button", click: () => download(this.spec.id + ".csv", csvOf(this.columns, this.rows)) }, "CSV of these rows");
    const links = this.spec.files.map((file) => make("a", { href: file, download: true }, file.split("/").pop()));
    return make("p", { class: "files" }, this.status, shown, links);
  }

  restart() {
    this.from = 0;
    this.draw();
  }

  matching() {
    const chosen = [...this.chosen];
    const texts = this.columns.filter((column) => column.kind === "text");
    const hits = this.text && texts.map((column) => column.words.map((_, code) => named(column, code).toLowerCase().includes(this.text)));
    const who = this.byId.get("editor");
    const hidden = who && who.words && who.words.map((word) => !methods.shown(word));
    const rows = [];
    for (let row = 0; row < this.spec.rows; row++) {
      if (hidden && hidden[who.codes[row]]) continue;
      if (!chosen.every(([column, code]) => column.codes[row] === code)) continue;
      if (hits && !texts.some((column, i) => hits[i][column.codes[row]])) continue;
      rows.push(row);
    }
    return rows;
  }

  sorted(rows) {
    if (!this.sort) return rows;
    this.sort.keys = this.sort.keys || sortKeys(this.sort);
    const keys = this.sort.keys;
    const sign = this.falling ? -1 : 1;
    return rows.sort((a, b) => {
      if (keys[a] == null || keys[b] == null) return (keys[a] == null) - (keys[b] == null) || a - b;
      return sign * (keys[a] - keys[b]) || a - b;
    });
  }

  // Columns that say the same in every row, or nothing, only take room.
  visibleColumns() {
    return this.columns.filter((column) => {
      if (!methods.shown(column.id)) return false;
      if (column.kind === "number") return !this.spec.rows || column.values.some((value) => value != null);
      return column.kind !== "text" || !(this.chosen.has(column) || (column.words.length < 2 && this.spec.rows > 1));
    });
  }

  draw() {
    this.rows = this.sorted(this.matching());
    const columns = this.visibleColumns();
    const page = this.rows.slice(this.from, this.from + ROWS);
    this.common = commonCounts(columns, page);
    const scales = new Map(columns.filter((c) => c.kind === "estimate").map((c) => [c, new Scales(this, c)]));
    const head = columns.findIndex((column) => column.kind === "text");
    const lines = page.map((row) => make("tr", {}, columns.map((column, place) => this.cell(column, row, place === head, scales.get(column)))));
    const empty = make("tr", {}, make("td", { colspan: columns.length }, this.spec.rows ? "No row matches." : "This run has none of these."));
    const table = make("table", {}, this.head(columns), make("tbody", {}, lines.length ? lines : empty));
    const focused = this.body.contains(document.activeElement) && document.activeElement.dataset.column;
    this.body.replaceChildren(table);
    if (focused) [...this.body.querySelectorAll("[data-column]")].find((node) => node.dataset.column === focused)?.focus();
    const rows = this.spec.of ? "first " + whole(this.spec.rows) + " of " + whole(this.spec.of) : whole(this.spec.rows);
    const kind = this.spec.rows === 1 ? " row" : " rows";
    this.status.textContent = (this.rows.length === this.spec.rows && !this.spec.of ? rows : whole(this.rows.length) + " of the " + rows) + kind;
    this.drawPager();
  }

  drawPager() {
    const last = Math.min(this.from + ROWS, this.rows.length);
    const turn = (by) => () => { this.from += by; this.draw(); };
    const back = make("button", { type: "button", disabled: this.from === 0, click: turn(-ROWS) }, "Previous rows");
    const on = make("button", { type: "button", disabled: last === this.rows.length, click: turn(ROWS) }, "Next rows");
    const many = this.rows.length > ROWS;
    this.pager.replaceChildren(...(many ? [back, make("span", {}, whole(this.from + 1) + "\u2013" + whole(last) + " of " + whole(this.rows.length)), on] : []));
  }

  head(columns) {
    if (!columns.some((column) => column.group)) {
      return make("thead", {}, make("tr", {}, columns.map((column) => this.header(column))));
    }
    const top = [];
    for (let place = 0; place < columns.length;) {
      const group = columns[place].group;
      let width = 1;
      while (group && place + width < columns.length && columns[place + width].group === group) width++;
      const common = this.common.get(group);
      if (!group) top.push(this.header(columns[place], 2));
      else top.push(make("th", { class: "group", colspan: width, scope: "colgroup" }, label(group), common && make("small", {}, common)));
      place += width;
    }
    return make("thead", {}, make("tr", {}, top), make("tr", {}, columns.filter((c) => c.group).map((c) => this.header(c))));
  }

  header(column, rowspan) {
    const sorted = this.sort === column;
    const button = make("button", {
      type: "button", "data-column": column.id, "data-about": column.about,
      click: () => {
        this.falling = sorted ? !this.falling : column.kind !== "text" && column.unit !== "rank";
        this.sort = column;
        this.restart();
      },
    }, label(column.label), make("span", { class: "order", "aria-hidden": "true" }, sorted ? (this.falling ? "▾" : "▴") : ""));
    const order = sorted ? (this.falling ? "descending" : "ascending") : "none";
    return make("th", { scope: "col", rowspan, class: column.kind === "text" ? "text" : "", "aria-sort": order }, button);
  }

  cell(column, row, head, scales) {
    if (column.kind === "text") {
      const code = column.codes[row];
      const isMetric = column.id === "metric" || column.id.endsWith("_metric");
      const content = isMetric ? term(column.words[code], named(column, code)) : label(named(column, code));
      const kind = column.id === "order" ? "text listing" : isMetric || column.free ? "text long" : "text";
      return make(head ? "th" : "td", { class: kind, scope: head && "row" }, content);
    }
    if (column.kind === "estimate") return estimateCell(column, row, this, scales);
    const value = column.values[row];
    if (column.kind === "flag") return make("td", { class: value ? "yes" : "no" }, value == null ? "\u2013" : value ? "yes" : "no");
    return make("td", {}, column.metric || column.by ? figure(value, this.unit(column, row), true) : plainNumber(column.id, value));
  }

  unit(column, row) {
    if (column.unit) return column.unit;
    if (column.metric) return unitOf(column.metric);
    const by = column.by && this.byId.get(column.by);
    return by ? unitOf(by.words[by.codes[row]]) : "plain";
  }
}

function plainNumber(id, value) {
  if (value == null) return "\u2013";
  if (/^p$|^p_|_p$|p_value/.test(id)) return value < 0.001 ? "< 0.001" : value.toFixed(3);
  return Number.isInteger(value) ? whole(value) : minus(String(Number(value.toPrecision(3))));
}

const counts = (column, row) => (column.n && column.n[row] ? "n = " + whole(column.n[row]) + (column.clusters ? ", " + whole(column.clusters[row]) + " clusters" : "") : "");

// The counts that all values under a heading share, by heading; an empty text where they differ.
function commonCounts(columns, rows) {
  const common = new Map();
  for (const column of columns) {
    if (!column.group) continue;
    for (const row of rows) {
      const found = counts(column, row);
      if (found) common.set(column.group, [found, undefined].includes(common.get(column.group)) ? found : "");
    }
  }
  return common;
}

// Where the strips of a column begin and end, by unit, and which values are the best of their group.
class Scales {
  constructor(view, column) {
    this.most = new Map();
    this.best = new Map();
    const others = view.columns.filter((c) => c.kind === "text" && !["editor", "seed"].includes(c.id));
    for (const row of view.rows) {
      const unit = view.unit(column, row);
      const reach = Math.max(Math.abs(column.low[row]), Math.abs(column.high[row]));
      this.most.set(unit, Math.max(this.most.get(unit) || 0, reach));
      if (!column.better || column.value[row] == null) continue;
      const key = others.map((c) => c.codes[row]).join();
      const group = this.best.get(key) || [];
      group.push(row);
      this.best.set(key, group);
    }
    this.winners = new Set();
    for (const group of this.best.values()) {
      const values = group.map((row) => column.value[row]);
      const best = column.better === "up" ? Math.max(...values) : Math.min(...values);
      if (new Set(values).size > 1) group.filter((row) => column.value[row] === best).forEach((row) => this.winners.add(row));
    }
  }

  ends(column, row, unit) {
    const most = this.most.get(unit) || 1;
    if (column.signed) return [-most, most];
    if (unit === "percent") return [column.low[row] < 0 ? -1 : 0, 1];
    if (unit === "rank") return [1, most];
    return [column.low[row] < 0 ? -most : 0, most];
  }
}

function estimateCell(column, row, view, scales) {
  const [value, low, high] = [column.value[row], column.low[row], column.high[row]];
  if (value == null) return make("td", { class: "value none" }, "\u2013");
  const unit = view.unit(column, row);
  const suffix = Boolean(column.by) && !column.sides;
  const [start, end] = scales.ends(column, row, unit);
  const sign = !column.signed ? "" : low > 0 ? "beyond" : high < 0 ? "below" : "same";
  const text = (column.signed && value > 0 ? "+" : "") + figure(value, unit, suffix);
  const sides = column.sides && column.sides[row].map((side) => figure(side, unit)).join(" against ");
  const interval = low == null ? "" : figure(low, unit) + " to " + figure(high, unit);
  const own = column.group && !view.common.get(column.group) && counts(column, row);
  return make("td", { class: ["value", sign, scales.winners.has(row) || (column.bold && column.bold[row]) ? "best" : ""].join(" ").trim() },
    make("b", {}, text), low != null && strip(low, value, high, start, end), make("small", {}, interval), sides && make("small", { class: "n" }, sides), column.beside && make("small", { class: "n" }, column.beside[row]), own && make("small", { class: "n" }, own));
}

// An interval with its value and zero, on a line from `start` to `end`. Its parts are laid over each other by
// margins: a position of its own would make each of thousands a layer.
function strip(low, value, high, start, end) {
  const place = (x) => (100 * (Math.min(Math.max(x, start), end) - start)) / (end - start || 1);
  const part = (tag, style) => make(tag, { style });
  return make("span", { class: "strip", "aria-hidden": "true" },
    part("i", "margin-left:" + place(low) + "%;width:" + (place(high) - place(low)) + "%"),
    part("u", "margin-left:calc(" + place(value) + "% - 1.5px)"), start < 0 && part("s", "margin-left:" + place(0) + "%"));
}

function startTables() {
  for (const place of document.querySelectorAll("[data-table]")) {
    place.replaceChildren(new TableView(page.tables[place.dataset.table]).node);
  }
}
