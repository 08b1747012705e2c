// Opens and closes the view of a video. Its data lie in the page, or in a script beside it, which is loaded when it is opened.

const waiting = new Map();
window.fvarVideo = (number, detail) => { waiting.get(number)?.(detail); };
const load = (row) => new Promise((resolve, reject) => {
  const number = Number(row.dataset.number), inside = byId(`data-${number}`);
  if (inside) { resolve(JSON.parse(inside.textContent)); return; }
  waiting.set(number, resolve);
  const script = element("script", { src: row.dataset.file });
  script.onerror = () => reject(new Error(`${row.dataset.file} cannot be read. Keep the folder beside this page.`));
  script.onload = () => script.remove();
  document.head.append(script);
});
const move = (step) => {
  const at = shown.findIndex((row) => row.dataset.number === state.video);
  if (shown[at + step]) open(shown[at + step]);
};
const open = async (row) => {
  state.video = row.dataset.number;
  remember();
  const title = element("h3", { id: "video-name" }, element("bdi", {}, row.dataset.id));
  const buttons = element("div", { className: "buttons" });
  for (const [text, label, act] of [["←", "Previous video", () => move(-1)], ["→", "Next video", () => move(1)], ["Close", "Close", () => dialog.close()]]) {
    const button = element("button", { type: "button", onclick: act }, text);
    button.setAttribute("aria-label", label);
    buttons.append(button);
  }
  const heading = element("div", { className: "title" }, title, row.querySelector(".mark").cloneNode(true), buttons);
  const content = element("div", { className: "content" }, element("p", { className: "faint" }, "Loading"));
  dialog.replaceChildren(heading, content);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  try {
    const detail = await load(row);
    if (state.video === row.dataset.number) content.replaceChildren(...view(detail, row, content.clientWidth));
  } catch (error) {
    content.replaceChildren(element("p", {}, error.message));
  }
};
dialog.addEventListener("close", () => {
  const row = rows.find((one) => one.dataset.number === state.video);
  dialog.replaceChildren();
  state.video = "";
  remember();
  row?.querySelector("a").focus();
});

recall();
byId("controls").hidden = false;
update();
const openAsked = () => {
  const asked = rows.find((row) => row.dataset.number === state.video);
  if (asked) open(asked); else if (dialog.open) dialog.close();
};
window.addEventListener("hashchange", () => { recall(); update(); openAsked(); });
openAsked();
