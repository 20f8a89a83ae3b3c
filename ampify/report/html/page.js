"use strict";
(() => {
  const root = document.documentElement;
  const stops = () => [...document.querySelectorAll(".say")];
  const files = () => [...document.querySelectorAll(".file")];
  const position = document.querySelector(".position");
  const help = document.getElementById("help");
  let from = null; // the edit whose page of the manual was gone to

  const store = {
    get() { try { return localStorage.getItem("ampify-theme"); } catch { return null; } },
    set(theme) { try { localStorage.setItem("ampify-theme", theme); } catch { /* a private window */ } },
  };

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function setTheme(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  }

  // Elements that are not on the page, as their file is closed, have no place of their own: that of the file counts.
  function top(element) {
    const details = element.closest("details:not([open])");
    return (details || element).getBoundingClientRect().top;
  }

  // Where among the elements we are: at the one with the focus, unless it was scrolled away from; else between two.
  function current(elements) {
    const focused = document.activeElement;
    const upper = document.querySelector(".top").offsetHeight + 1;
    const { top: above, bottom } = focused.getBoundingClientRect();
    const at = elements.findIndex((element) => element === focused || element.contains(focused));
    if (at >= 0 && bottom > upper && above < innerHeight) return at;
    const below = elements.findIndex((element) => top(element) > upper);
    return (below < 0 ? elements.length : below) - 0.5;
  }

  function go(elements, step, block) {
    if (!elements.length) return;
    const now = current(elements);
    const to = step > 0 ? Math.floor(now + 1) : Math.ceil(now - 1);
    if (to < 0 || to >= elements.length) return;
    show(elements[to], block);
  }

  function show(element, block) {
    const details = element.closest("details");
    if (details) details.open = true;
    const target = element.matches(".file") ? element.querySelector("summary") : element;
    target.focus({ preventScroll: true });
    element.scrollIntoView({ block });
    told();
  }

  function told() {
    const all = stops();
    const at = all.indexOf(document.activeElement);
    position.textContent = at < 0 ? `${all.length} to look at` : `${at + 1} of ${all.length}`;
  }

  // Rows for the lines of a gap, in place of it.
  function open(gap) {
    const { old, new: now, lines, colours } = gap.dataset;
    const kinds = colours.split(" ");
    const rows = lines.split("\n").map((line, number) => {
      const row = document.createElement("tr");
      for (const first of now ? [old, now] : [old]) {
        const label = row.insertCell();
        label.className = "ln";
        label.dataset.n = Number(first) + number;
        colour(row.insertCell(), line, kinds[number]);
      }
      return row;
    });
    gap.replaceWith(...rows);
    rows[0].lastChild.tabIndex = -1;
    rows[0].lastChild.focus({ preventScroll: true });
  }

  function colour(cell, line, kinds) {
    let at = 0;
    for (const [, plain, length, kind] of kinds.matchAll(/(\d+)_(\d+)([a-z])/g)) {
      const start = at + Number(plain);
      const span = document.createElement("span");
      span.className = kind;
      span.textContent = characters(line, start, start + Number(length));
      cell.append(characters(line, at, start), span);
      at = start + Number(length);
    }
    cell.append(characters(line, at));
  }

  // Characters as Python counts them.
  function characters(line, start, end) { return [...line].slice(start, end).join(""); }

  function back() {
    if (!from) return;
    show(from, "center");
    from = null;
  }

  const actions = {
    next: () => go(stops(), 1, "center"),
    previous: () => go(stops(), -1, "center"),
    nextFile: () => go(files(), 1, "start"),
    previousFile: () => go(files(), -1, "start"),
    toggle() {
      const file = document.activeElement.closest(".file") || files()[Math.floor(current(files()))];
      if (!file) return;
      const details = file.querySelector("details");
      details.open = !details.open;
      if (!details.open) details.querySelector("summary").focus();
    },
    manual() {
      const said = document.activeElement.closest(".say");
      if (said && document.activeElement === said) said.querySelector("a").click();
    },
    back,
    theme() {
      const theme = isDark() ? "light" : "dark";
      setTheme(theme);
      store.set(theme);
    },
    help() { if (help.open) help.close(); else help.showModal(); },
  };

  const keys = {
    j: "next", n: "next", k: "previous", p: "previous", f: "nextFile", F: "previousFile",
    o: "toggle", Enter: "manual", b: "back", t: "theme", "?": "help",
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea, select")) return;
    const action = keys[event.key];
    if (!action || (help.open && action !== "help")) return;
    if (event.key === "Enter" && !event.target.matches(".say")) return; // links and buttons have a use for it
    event.preventDefault();
    actions[action]();
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) actions[button.dataset.do]();
    const more = event.target.closest("button.more");
    if (more) open(more.closest("tr"));
    const link = event.target.closest(".say a.id");
    if (link) from = link.closest(".say");
  });

  document.addEventListener("focusin", told);
  addEventListener("hashchange", () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const details = target.closest("details") || target.querySelector(":scope > details");
    if (details) details.open = true;
    target.focus({ preventScroll: true });
    if (target.matches(".say")) target.scrollIntoView({ block: "center" });
  });

  for (const count of document.querySelectorAll("tr[data-lines] span.more")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "more";
    button.title = "Show these lines";
    button.append(...count.childNodes);
    count.replaceWith(button);
  }
  setTheme(store.get());
  document.querySelector(".tools").hidden = false;
  told();
})();
