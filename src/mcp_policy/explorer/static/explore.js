// The pages of the explorer: copy buttons, and searching, narrowing and sorting the table of tools.
//
// - The server has written every row; here rows are only hidden, counted and put into another order.
// - What is chosen stands in the address behind the #, so that it can be linked and works without a server.
// - Nothing becomes markup: only texts and attributes are set.
"use strict";

(() => {
  const said = document.getElementById("said");

  /* Tell people who hear the page; the same words twice are two messages. */
  function say(text) {
    said.textContent = "";
    requestAnimationFrame(() => { said.textContent = text; });
  }

  // -- copying

  async function copy(button) {
    const code = button.parentElement.querySelector(".code");
    let copied = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);  // a page that is not served over TLS has no clipboard
      copied = document.execCommand("copy");
    }
    const text = button.firstChild;
    text.data = copied ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { text.data = "Copy"; }, 2000);
    say(copied ? `copied: ${button.dataset.copied}` : "selected: press Ctrl+C to copy");
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".copy");
    if (button) copy(button);
  });

  // -- showing many rows

  const AT_ONCE = 20;  // rows: about what a screen holds
  let waiting;

  /* Show what a person can see now; what is further down follows frame by frame, so that typing never waits for it. */
  function reveal(items) {
    cancelAnimationFrame(waiting);
    for (const item of items.slice(0, AT_ONCE)) if (item.hidden) item.hidden = false;
    const rest = items.slice(AT_ONCE);
    if (rest.some((item) => item.hidden)) waiting = requestAnimationFrame(() => requestAnimationFrame(() => reveal(rest)));
  }

  window.reveal = reveal;  // the builder's list of tools is as long

  // -- the table of tools

  const table = document.getElementById("tools");
  if (!table) return;

  const form = document.getElementById("filters");
  const search = document.getElementById("q");
  const count = document.getElementById("count");
  const none = document.getElementById("none");
  const clear = document.getElementById("clear");
  const body = table.tBodies[0];
  const heads = [...table.querySelectorAll("[data-sort]")];
  const folded = (text) => text.toLowerCase().normalize("NFKC");
  const { format } = new Intl.NumberFormat("en");
  const plural = (number) => `${format(number)} tool${number === 1 ? "" : "s"}`;

  // Each facet: its key, and of each value the box, the place where its count stands, and its rank in the order.
  const facets = [...form.querySelectorAll(".facet")].map((group, bit) => ({
    key: group.dataset.key,
    bit: 2 << bit,  // 1 stands for the search
    values: new Map([...group.querySelectorAll(".choice")].map((label, rank) => {
      const [box, place] = [label.querySelector("input"), label.querySelector(".count")];
      return [box.value, { box, label, rank, place, count: place.textContent }];
    })),
  }));

  // Every row, in the order of the table, read once: its texts, and its value of each facet.
  const rows = [...body.rows].map((row, place) => ({
    row,
    place,
    text: folded(row.textContent),
    values: facets.map((facet) => facet.values.get(row.dataset[facet.key])),
  }));

  function apply() {
    const words = folded(search.value).split(/\s+/).filter(Boolean);
    const chosen = facets.map((facet) => [...facet.values.values()].filter((value) => value.box.checked));
    const counts = new Map();
    const shown = [];
    for (const one of rows) {
      let misses = words.every((word) => one.text.includes(word)) ? 0 : 1;
      facets.forEach((facet, i) => {
        if (chosen[i].length && !chosen[i].includes(one.values[i])) misses |= facet.bit;
      });
      // A value counts what choosing it would show: what fails for this facet alone counts too.
      facets.forEach((facet, i) => {
        if ((misses & ~facet.bit) === 0) counts.set(one.values[i], (counts.get(one.values[i]) ?? 0) + 1);
      });
      if (misses === 0) shown.push(one);
      else if (!one.row.hidden) one.row.hidden = true;
    }
    reveal(shown.map((one) => one.row));
    for (const facet of facets) {
      for (const value of facet.values.values()) write(value, counts.get(value) ?? 0);
    }
    const narrowed = words.length > 0 || chosen.some((values) => values.length);
    const all = plural(rows.length);
    const text = shown.length === rows.length ? all : `${format(shown.length)} of ${all}`;
    if (count.textContent !== text) count.textContent = text;
    none.hidden = shown.length > 0;
    clear.hidden = !narrowed || shown.length === 0;
    return text;
  }

  function write(value, found) {
    const text = format(found);
    if (value.count === text) return;
    value.place.textContent = value.count = text;
    value.label.classList.toggle("without", found === 0);
  }

  // -- sorting

  const FIRST = { level: "-level" };  // how the server has sorted
  let order = FIRST.level;

  function sort(wanted) {
    const key = wanted.replace(/^-/, "");
    if (!heads.some((head) => head.dataset.sort === key)) return;
    if (order !== wanted) {
      arrange(wanted, key);
      body.append(...rows.map((one) => one.row));
      order = wanted;
    }
    for (const head of heads) {
      const is = head.dataset.sort === key ? (wanted === key ? "ascending" : "descending") : "none";
      head.parentElement.setAttribute("aria-sort", is);
    }
  }

  /* Words ascend from A; what has ranks ascends from the harmless. What is equal stays as the server has sorted it. */
  function arrange(wanted, key) {
    const sign = wanted === key ? 1 : -1;
    const facet = key === "server" ? -1 : facets.findIndex((one) => one.key === key);
    const { compare } = new Intl.Collator("en", { numeric: true });
    for (const one of rows) {
      one.by = facet < 0 ? one.row.querySelector(`.col-${key}`).textContent : -one.values[facet].rank;
    }
    rows.sort((a, b) => (sign * (facet < 0 ? compare(a.by, b.by) : a.by - b.by)) || a.place - b.place);
  }

  // -- the address

  function chosenAddress() {
    const parts = new URLSearchParams();
    if (search.value.trim()) parts.set("q", search.value.trim());
    for (const facet of facets) {
      for (const [value, { box }] of facet.values) if (box.checked) parts.append(facet.key, value);
    }
    if (order !== FIRST.level) parts.set("sort", order);
    return parts.toString();
  }

  function fromAddress() {
    const text = location.hash.slice(1);
    if (text && !text.includes("=")) return;  // the address of a place on this page
    const parts = new URLSearchParams(text);
    search.value = parts.get("q") ?? "";
    for (const facet of facets) {
      const wanted = parts.getAll(facet.key);
      for (const [value, { box }] of facet.values) box.checked = wanted.includes(value);
    }
    sort(parts.get("sort") ?? FIRST.level);
    return apply();
  }

  let pause;
  /* Browsers count how often an address is changed, and hearing every keystroke's result helps nobody: wait a little. */
  function changed() {
    const text = apply();
    clearTimeout(pause);
    pause = setTimeout(() => {
      history.replaceState(null, "", `#${chosenAddress()}`);
      say(text);
    }, 400);
  }

  function cleared() {
    form.reset();
    changed();
    search.focus();
  }

  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => event.preventDefault());
  clear.addEventListener("click", cleared);
  none.querySelector("button").addEventListener("click", cleared);
  for (const head of heads) {
    head.addEventListener("click", () => {
      const key = head.dataset.sort;
      const downFirst = key === "level" || key === "category" || key === "decision";
      const down = order === `-${key}` || order === key ? order === key : downFirst;
      sort(down ? `-${key}` : key);
      changed();
    });
  }
  document.getElementById("more").addEventListener("click", (event) => {
    const open = form.classList.toggle("open");
    event.currentTarget.setAttribute("aria-expanded", String(open));
  });
  addEventListener("hashchange", () => { const text = fromAddress(); if (text) say(text); });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    search.focus();
    search.select();
  });
  if (location.hash) fromAddress();
})();
