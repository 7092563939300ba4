// The methods that a reader compares: all, or those that the address names. Lists and tables follow.
const methods = {
  all: page.editors,
  chosen: new Set(page.editors),
  followers: [],

  // True for a method that is compared, and for what is no method of this run.
  shown: (name) => methods.chosen.has(name) || !methods.all.includes(name),

  follow(change) {
    methods.followers.push(change);
  },

  choose(names) {
    methods.chosen = new Set(names);
    for (const row of document.querySelectorAll("[data-method]")) row.hidden = !methods.shown(row.dataset.method);
    for (const change of methods.followers) change();
  },
};

function methodsAt(address) {
  const named = (new URL(address).searchParams.get("methods") || "").split(",").map(decodeURIComponent);
  const known = methods.all.filter((name) => named.includes(name));
  return known.length ? known : methods.all;
}

function startMethods() {
  const place = document.querySelector("#methods div");
  if (!place) return;
  const boxes = methods.all.map((name) => make("input", { type: "checkbox", value: name, change: () => change() }));
  const summary = document.querySelector("#methods summary");
  const draw = () => {
    for (const box of boxes) box.checked = methods.chosen.has(box.value);
    const some = methods.chosen.size < methods.all.length;
    summary.textContent = "Methods to compare: " + (some ? methods.chosen.size + " of " + methods.all.length : "all " + methods.all.length);
  };
  const apply = (names) => {
    methods.choose(names.length ? names : methods.all);
    draw();
    const address = new URL(location.href);
    address.searchParams.delete("methods");
    if (methods.chosen.size < methods.all.length) address.searchParams.set("methods", [...methods.chosen].map(encodeURIComponent).join(","));
    history.replaceState(null, "", address);
  };
  const change = () => apply(boxes.filter((box) => box.checked).map((box) => box.value));
  const all = make("button", { type: "button", "aria-label": "All methods", click: () => apply(methods.all) }, "all");
  place.replaceChildren(...boxes.map((box) => make("label", {}, box, label(box.value))), all);
  methods.choose(methodsAt(location.href));
  draw();
}
