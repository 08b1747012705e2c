// The table of videos: sorts, filters, search and keyboard. The state is in the address.

const byId = (id) => document.getElementById(id);
const { classes } = JSON.parse(byId("meta").textContent);
const table = document.querySelector("table.videos"), dialog = byId("video"), fields = ["q", "label", "show", "least"].map(byId);
const rows = [...table.tBodies[0].rows];
const state = { q: "", label: "", show: "", least: "", sort: "number", video: "" };
const GROUP = 50, ROW_PX = 34;
const NUMBERS = new Set(["number", "confidence", "margin", "frames", "evenness", "change"]);
let shown = rows;

const element = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const shape = (tag, attributes, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
};
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
const seconds = (value) => `${value.toFixed(2)} s`;

const remember = () => {
  const kept = Object.entries(state).filter(([name, value]) => value !== "" && !(name === "sort" && value === "number"));
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
};
const recall = () => {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(state)) state[name] = found.get(name) ?? (name === "sort" ? "number" : "");
  for (const field of fields) field.value = state[field.id];
};
const filter = () => {
  const text = state.q.trim().toLowerCase(), least = Number(state.least) / 100;
  shown = rows.filter(({ dataset: has }) => has.text.includes(text) && (state.label === "" || has.label === state.label)
    && (state.show === "" || has.verdict === state.show) && !(least > 0 && !(Number(has.confidence) >= least)));
  byId("shown").textContent = shown.length === rows.length ? `${rows.length} videos` : `${shown.length} of ${rows.length} videos`;
  // In groups, because the browser lays out and paints only the groups that it shows.
  const groups = [];
  for (let at = 0; at < shown.length; at += GROUP) groups.push(element("tbody", {}, ...shown.slice(at, at + GROUP)));
  for (const group of groups) group.style.containIntrinsicHeight = `${ROW_PX * group.children.length}px`;
  table.replaceChildren(table.tHead, ...groups);
};
const sort = () => {
  const falls = state.sort.startsWith("-"), key = falls ? state.sort.slice(1) : state.sort, sign = falls ? -1 : 1;
  const value = (row) => row.dataset[key] ?? "";
  const compare = NUMBERS.has(key)
    ? (a, b) => sign * (value(a) - value(b))
    : (a, b) => sign * value(a).localeCompare(value(b), undefined, { numeric: true });
  rows.sort((a, b) => compare(a, b) || a.dataset.number - b.dataset.number);
  for (const head of document.querySelectorAll("th[data-key]")) {
    if (head.dataset.key === key) head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
};
const update = () => { sort(); filter(); remember(); };

for (const field of fields) {
  field.addEventListener(field.matches("select") ? "change" : "input", () => { state[field.id] = field.value; filter(); remember(); });
}
for (const head of document.querySelectorAll("th[data-key]")) {
  head.firstElementChild.addEventListener("click", () => {
    const key = head.dataset.key, first = NUMBERS.has(key) && key !== "number" ? `-${key}` : key;
    const other = first === key ? `-${key}` : key;
    state.sort = state.sort === first ? other : first;
    update();
  });
}
table.addEventListener("click", (event) => {
  const row = event.target.closest("tbody tr");
  if (!row || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  open(row);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select") && event.target.type !== "range";
  if (dialog.open) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && event.target.type !== "range") { event.preventDefault(); move(step); }
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    byId("q").focus();
  } else if (event.key === "Escape" && event.target.id === "q") {
    state.q = event.target.value = "";
    filter(); remember();
    event.target.blur();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !event.target.matches("select, input[type=number]")) {
    const at = shown.indexOf(event.target.closest("tr"));
    const next = shown[Math.min(Math.max(at + (event.key === "ArrowDown" ? 1 : -1), 0), shown.length - 1)];
    if (next) { event.preventDefault(); next.querySelector("a").focus(); }
  }
});
