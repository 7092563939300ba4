// Building blocks: elements, text that cannot do harm, numbers, definitions on hover and focus.
const page = JSON.parse(document.getElementById("data").textContent);

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false && child !== ""));
  return node;
}

// Labels come from outside: control characters and those that turn the direction of text get a mark.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/gu;
const visible = (text) => text.replace(HIDDEN, "\ufffd");
const label = (text) => make("bdi", {}, visible(text));

const SPACE = "\u00a0";
const minus = (text) => text.replace("-", "\u2212");
const grouped = new Intl.NumberFormat("en");
const whole = (value) => minus(grouped.format(value));

// A value of a metric: shares as percentages, distortions times 100.
function figure(value, unit, suffix) {
  if (value == null) return "\u2013";
  if (unit === "rank") return whole(value);
  const text = unit === "percent" ? (100 * value).toFixed(1) : (unit === "nats" ? 100 * value : value).toFixed(2);
  return minus(/^-0\.?0*$/.test(text) ? text.slice(1) : text) + (suffix && unit === "percent" ? SPACE + "%" : "");
}

// A probability as a percentage that keeps small ones apart.
function chance(value) {
  if (value == null) return "\u2013";
  const percent = 100 * value;
  if (percent > 0 && percent < 1e-4) return "<" + SPACE + "0.0001" + SPACE + "%";
  const digits = percent >= 10 ? 1 : percent >= 1 ? 2 : Math.min(5, 1 - Math.floor(Math.log10(percent || 1)));
  return percent.toFixed(digits) + SPACE + "%";
}

const unitOf = (name) => (page.metrics[name] || { unit: "plain" }).unit;

// The name of a metric, with its definition.
function term(name, text) {
  const told = page.metrics[name];
  if (!told) return label(text || name);
  return make("a", { href: "#metric-" + name, class: "term", "data-about": told.about }, text || told.title);
}

function option(value, text) {
  return make("option", { value }, visible(text));
}

function chooser(name, options, change) {
  const select = make("select", { change: () => change(select.value) }, options);
  return make("label", {}, make("span", {}, name), select);
}

function startTips() {
  const tip = make("div", { id: "tip", role: "tooltip", hidden: true });
  document.body.append(tip);
  let owner = null;
  let leaving = 0;
  const hide = () => {
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  };
  const show = (target) => {
    const found = target.closest && target.closest("[data-about]");
    clearTimeout(leaving);
    if (target === tip || found === owner) return;
    hide();
    if (!found) return;
    owner = found;
    tip.textContent = found.dataset.about;
    tip.hidden = false;
    found.setAttribute("aria-describedby", "tip");
    const box = found.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left), document.documentElement.clientWidth - tip.offsetWidth - 8);
    const below = box.bottom + 6 + tip.offsetHeight < innerHeight;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = (below ? box.bottom + 6 : Math.max(8, box.top - 6 - tip.offsetHeight)) + "px";
  };
  document.addEventListener("mouseover", (event) => {
    const at = event.target;
    if (at === tip || (at.closest && at.closest("[data-about]"))) return show(at);
    clearTimeout(leaving);
    leaving = setTimeout(() => owner !== document.activeElement && hide(), 200);
  });
  document.addEventListener("focusin", (event) => show(event.target));
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", () => owner !== document.activeElement && hide(), { passive: true, capture: true });
}
