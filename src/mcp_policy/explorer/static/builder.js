// The builder: the text of a policy and the form of it, in step.
//
// - The text is the only truth: every request carries it, and what the server answers follows from it alone.
// - Requests go one after the other, so that an edit is always an edit of what the one before it has left.
// - Nothing becomes markup here: the server's fragments are swapped by htmx, and this script sets texts and attributes.
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const [builder, panel, text, gutter, outcome] = ["builder", "panel", "text", "gutter", "outcome"].map(byId);
  const [tool, selected, custom, digest] = ["tool", "selected", "custom", "digest"].map(byId);
  const STATES = JSON.parse(builder.dataset.allStates);
  const KINDS = JSON.parse(builder.dataset.allKinds);
  const plural = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

  /* Tell people who hear the page; the same words twice are two messages. */
  function say(words) {
    byId("said").textContent = "";
    requestAnimationFrame(() => { byId("said").textContent = words; });
  }

  // -- asking

  let last = Promise.resolve();
  let waiting = 0;

  /* Ask for what follows from the text, after everything that was asked before. `source` is the field that asks. */
  function ask(path, values = {}, source = null) {
    waiting += 1;
    last = last.then(() => answered(path, values, source)).catch((error) => {
      refused(source, "There was no answer. Is the explorer still running?");
      console.info(error);
    }).finally(() => { waiting -= 1; });
    return last;
  }

  async function answered(path, values, source) {
    const sent = text.value;
    byId("news").removeAttribute("data-loads");
    byId("news").removeAttribute("data-refused");
    text.readOnly = path === "edit";
    try {
      await htmx.ajax("POST", `builder/${path}`, {
        source: panel, target: "#panel", swap: "innerHTML",
        values: { text: sent, tool: tool.value, selected: selected.value, custom: custom.value, ...values },
      });
    } finally {
      text.readOnly = swapping = false;
    }
    const news = byId("news").dataset;
    if (news.refused !== undefined) {
      refused(source, news.refused);
      return;
    }
    if (news.loads === undefined) throw new Error("no answer");
    heard(news, sent);
    if (source && document.activeElement === document.body) byId("panel-title")?.focus({ preventScroll: true });  // what asked is gone
  }

  // What somebody is typing in the panel is not taken from under them: its new field gets it, and what is selected.
  let typing = null;
  let swapping = false;
  const asked = new WeakMap();  // of a field, the value that it has asked for

  panel.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target !== panel) return;
    const field = document.activeElement;
    const holds = field?.id && panel.contains(field) && field.matches("input:not([type=radio], [type=checkbox]), textarea");
    typing = holds ? field : null;
    swapping = true;  // a field that is taken away tells of its change, which is none yet
  });

  // At once, and not when all has settled: what happens in between is a person's doing.
  panel.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== panel) return;
    swapping = false;
    putBack();
  });

  function putBack() {
    const field = typing && byId(typing.id);
    if (field && field !== typing) {
      const { value, defaultValue, selectionStart, selectionEnd } = typing;
      if (value !== defaultValue) field.value = value;
      if (field === document.activeElement) field.setSelectionRange(selectionStart, selectionEnd);
    }
    typing = null;
  }

  function heard(news, sent) {
    const loads = news.loads === "true";
    if (news.text !== undefined && news.text !== sent) {
      put(news.text);
      step(news.text);
    }
    tool.value = news.tool;
    selected.value = JSON.parse(news.selected);
    if (loads) showStates(news.states, news.kinds);
    byId("old-states").hidden = loads;
    byId("tool-list").classList.toggle("old", !loads);
    showSelected();
    readOffers();
    marks();
    tell(news, loads);
    byId("tried").hidden = !loads; // what it says is of a text that is gone
    if (loads && !byId("trial").hidden && byId("tried").childElementCount) htmx.trigger("#trial-form", "submit");
  }

  let told = "";

  function tell(news, loads) {
    const found = byId("findings-title").textContent;
    const words = loads ? [byId("tool").value && news.posture, found].filter(Boolean).join(", ") : `Does not load: ${found}`;
    if (words !== told) say(words);
    told = words;
  }

  /* Show beside a field why what it asks for cannot be, and leave the document as it is. */
  function refused(source, why) {
    const field = source?.isConnected ? source : null;
    const place = field?.closest(".fields") ?? field?.closest(".field, .check-field, fieldset, form") ?? panel;
    clearRefusals();
    const said = document.createElement("p");
    said.className = "refusal notice error text";
    said.id = "refusal";
    said.setAttribute("role", "alert");
    why.split("`").forEach((part, index) => {  // what stands in backticks is somebody's word
      const piece = document.createElement(index % 2 ? "code" : "span");
      piece.textContent = part;
      said.append(piece);
    });
    if (place === panel) panel.prepend(said); else if (place.matches("fieldset, .fields")) place.after(said); else place.append(said);
    if (field?.matches("input, select, textarea")) {
      if (field.type === "radio" || field.type === "checkbox") {
        for (const one of field.closest("fieldset, label").querySelectorAll("input")) one.checked = one.defaultChecked;
      } else {
        field.setAttribute("aria-invalid", "true");
        field.setAttribute("aria-errormessage", "refusal");
      }
    }
  }

  function clearRefusals() {
    byId("refusal")?.remove();
    for (const one of document.querySelectorAll("[aria-invalid]")) {
      one.removeAttribute("aria-invalid");
      one.removeAttribute("aria-errormessage");
    }
  }

  // -- the form

  /* Ask for the edit that a field, a button or a small form stands for. */
  function edit(element, field = element) {
    const values = JSON.parse(element.dataset.edit);
    clearRefusals();
    if (values.do === "kind") {
      custom.value = values.to === "custom" ? "on" : "";
      if (values.to === "custom") return ask("read", {}, field);  // a form to fill in; nothing has changed yet
    }
    if (element.matches("form")) Object.assign(values, Object.fromEntries(new FormData(element)));
    else if (element.matches("fieldset")) values.value = [...element.querySelectorAll(":checked")].map((one) => one.value).join("\n");
    else if (element.type === "checkbox") values.value = element.checked ? element.value : "";
    else if (element.matches("input, select, textarea") && values.do === "fill") values.value = element.value;
    asked.set(field, field.value);
    return ask("edit", values, field);
  }

  panel.addEventListener("change", (event) => {
    if (swapping) return;
    const element = event.target.closest("[data-edit]");
    if (element && !element.matches("form")) edit(element, event.target);
  });
  panel.addEventListener("focusout", (event) => {  // a field that was put back has no change of its own to tell
    const field = event.target;
    if (swapping || !field.matches("input[data-edit]:not([type=radio], [type=checkbox]), textarea[data-edit]")) return;
    if (field.value !== field.defaultValue && asked.get(field) !== field.value) edit(field);
  });
  panel.addEventListener("submit", (event) => {
    event.preventDefault();
    if (event.target.matches("[data-edit]")) edit(event.target);
  });
  panel.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-edit]");
    if (button) edit(button);
  });

  // Which comparisons fit, and which values there are, by the type of what is compared.
  let offers = { paths: {}, ops: {} };

  function readOffers() {
    const element = byId("offers");
    if (element) offers = JSON.parse(element.dataset.offers);
    for (const form of panel.querySelectorAll(".condition-form")) offer(form);
  }

  function offer(form) {
    const known = offers.paths[form.elements.path.value.trim()];
    const { op, by, value } = form.elements;
    const fitting = known ? known.ops : Object.keys(offers.ops);
    const before = op.value;
    if ([...op.options].map((one) => one.value).join() !== fitting.join()) {
      const kept = fitting.includes(before);
      op.replaceChildren(...fitting.map((name, place) => new Option(offers.ops[name].verb, name, false, kept ? name === before : !place)));
    }
    by.options[1].disabled = !offers.ops[op.value].by_path;
    if (by.options[1].disabled) by.value = "value";
    const values = op.value === "exists" || known?.type === "boolean" ? ["true", "false"] : known?.choices ?? [];
    const list = by.value === "path" ? Object.keys(offers.paths).filter((path) => !path.includes("[*]")) : values;
    byId(`${form.id}-values`).replaceChildren(...list.map((one) => new Option("", typeof one === "string" ? one : JSON.stringify(one))));
    if (op.value === "exists" && !value.value) value.value = "true";
    const kind = known ? `${form.elements.path.value.trim()} is ${known.type === "any" ? "of any type" : `of type ${known.type}`}. ` : "";
    byId(`${form.id}-takes`).textContent = kind + (by.value !== "path" ? `Type ${offers.ops[op.value].hint}.` : "");
  }

  panel.addEventListener("input", (event) => {
    const form = event.target.closest(".condition-form");
    if (form && event.target.name !== "value" && event.target.name !== "reason") offer(form);
  });

  // -- selecting an entry

  const tools = [...byId("tool-list").querySelectorAll("a")];
  const rows = tools.map((link) => ({
    link, item: link.parentElement, server: link.dataset.server,
    text: link.textContent.toLowerCase().normalize("NFKC").replace(/\s+/g, " "),
    own: link.querySelector(".own"), state: link.querySelector(".badge[class*=state-]"),
    now: link.querySelector(".badge[class*=state-]").textContent, kind: link.querySelector(".own").textContent || "none",
  }));

  const narrow = matchMedia("(max-width: 899px)");
  const picking = byId("picking");
  if (narrow.matches && (tool.value || location.search)) picking.open = false;
  narrow.addEventListener("change", () => { if (!narrow.matches) picking.open = true; });

  function select(values, address) {
    if (narrow.matches) picking.open = false;
    custom.value = "";
    tool.value = values.tool ?? "";
    selected.value = values.selected ?? "";
    history.replaceState(null, "", address);
    byId("tried").replaceChildren();
    return ask("read", { fresh: "1" }).then(() => {
      byId("panel-title")?.focus({ preventScroll: true });
      const top = panel.getBoundingClientRect().top;
      if (top < 0 || top > innerHeight * 0.7) panel.scrollIntoView({ block: "start" });
    });
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-tool], a[data-at]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    select({ tool: link.dataset.tool, selected: link.dataset.at && JSON.parse(link.dataset.at) }, link.getAttribute("href"));
  });

  let current = tools.find((link) => link.hasAttribute("aria-current"));

  function showSelected() {
    const link = tool.value ? tools.find((one) => one.dataset.tool === tool.value) : undefined;
    if (link !== current) {
      current?.removeAttribute("aria-current");
      link?.setAttribute("aria-current", "true");
      current = link;
    }
    byId("trial").hidden = !link;
  }

  function showStates(states, kinds) {
    rows.forEach((row, place) => {
      const state = STATES[Number(states[place])];
      const kind = KINDS[Number(kinds[place])];
      if (row.now !== state) {
        row.state.className = `badge state-${state}`;
        row.state.textContent = row.now = state;
      }
      if (row.kind !== kind) {
        row.own.className = `own own-${kind}`;
        row.own.textContent = kind === "none" ? "" : kind;
        row.kind = kind;
      }
    });
    if (ofState.value) filter();
  }

  byId("pattern-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const form = Object.fromEntries(new FormData(event.target));
    const escaped = (key) => key.replaceAll("~", "~0").replaceAll("/", "~1");
    const inside = { pattern: `/tools/${escaped(form.pattern)}`, all_tools: "/all_tools" }[form.for] ?? `/categories/${form.for}`;
    if (form.for === "pattern" && !form.pattern) return byId("pattern").focus();
    const at = (form.server ? `/servers/${escaped(form.server)}` : "") + inside;
    select({ selected: at }, `builder.html?at=${encodeURIComponent(at)}`);
  });
  byId("pattern-for").addEventListener("change", (event) => {
    byId("pattern").closest(".field").hidden = event.target.value !== "pattern";
  });

  // -- finding a tool

  const find = byId("find");
  const ofState = byId("of-state");

  function filter() {
    const words = find.value.toLowerCase().normalize("NFKC").split(/\s+/).filter(Boolean);
    const server = byId("of-server")?.value ?? "";
    const shown = [];
    for (const row of rows) {
      const fits = words.every((word) => row.text.includes(word)) && (!server || row.server === server)
        && (!ofState.value || row.now === ofState.value);
      if (fits) shown.push(row.item);
      else if (!row.item.hidden) row.item.hidden = true;
    }
    reveal(shown);
    const all = plural(rows.length, "tool");
    byId("tools-count").textContent = shown.length === rows.length ? all : `${shown.length.toLocaleString("en")} of ${all}`;
    byId("no-tools").hidden = shown.length > 0;
  }

  byId("finding-tools").addEventListener("input", filter);
  byId("finding-tools").addEventListener("submit", (event) => {
    event.preventDefault();
    rows.find((row) => !row.item.hidden)?.link.click();
  });

  /* Arrows go up and down a list of entries. */
  document.querySelector(".picker").addEventListener("keydown", (event) => {
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!way) return;
    if (event.target === find && way > 0) {
      event.preventDefault();
      rows.find((row) => !row.item.hidden)?.link.focus();
      return;
    }
    let item = event.target.closest("a")?.parentElement;
    if (!item) return;
    event.preventDefault();
    do item = way > 0 ? item.nextElementSibling : item.previousElementSibling; while (item?.hidden);
    (item?.querySelector("a") ?? (way < 0 && event.target.dataset.tool ? find : null))?.focus();
  });

  // -- the text

  const steps = [{ text: text.value, typed: false }];
  let at = 0;
  let typedAt = 0;
  let pause;
  const GROUP = 1000;  // ms: what is typed with shorter pauses is one step
  const SETTLED = 300;

  function put(value) {
    const [top, left] = [text.scrollTop, text.scrollLeft];
    text.value = value;
    [text.scrollTop, text.scrollLeft] = [top, left];
    drawGutter();
    showSaving();
  }

  /* Keep a text to come back to. */
  function step(value, typed = false) {
    const now = performance.now();
    const joins = typed && steps[at].typed && now - typedAt < GROUP && at === steps.length - 1;
    if (typed) typedAt = now;
    if (joins) {
      steps[at].text = value;
    } else {
      steps.splice(at + 1, Infinity, { text: value, typed });
      if (steps.length > 200) steps.shift();
      at = steps.length - 1;
    }
    showSteps();
  }

  function go(way) {
    if (!steps[at + way]) return;
    at += way;
    clearTimeout(pause);
    put(steps[at].text);
    showSteps();
    ask("read");
  }

  function showSteps() {
    byId("undo").disabled = at === 0;
    byId("redo").disabled = at === steps.length - 1;
  }

  text.addEventListener("input", () => {
    step(text.value, true);
    drawGutter();
    showSaving();
    clearTimeout(pause);
    pause = setTimeout(() => ask("read"), SETTLED);
  });
  for (const [id, way] of [["undo", -1], ["redo", 1]]) byId(id).addEventListener("click", () => last.then(() => go(way)));

  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey) {
      const typing = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select");
      if (event.key === "/" && !typing) {
        event.preventDefault();
        picking.open = true;
        find.focus();
        find.select();
      }
      return;
    }
    const key = event.key.toLowerCase();
    const own = event.target === text || !event.target.closest("input:not([type=radio], [type=checkbox]), textarea");
    const way = key === "y" || (key === "z" && event.shiftKey) ? 1 : key === "z" ? -1 : 0;
    if (way && own) {
      event.preventDefault();
      last.then(() => go(way));
    } else if (key === "s") {
      event.preventDefault();
      if (event.target.matches("[data-edit]")) event.target.blur();
      byId("save").click();
    }
  });

  // Line numbers, with the lines marked that something is said of.
  let lines = 0;

  function drawGutter() {
    const count = text.value.split("\n").length;
    if (count !== lines) {
      const numbers = [];
      for (let line = 1; line <= count; line += 1) {
        const number = document.createElement("span");
        number.textContent = line;
        numbers.push(number);
      }
      gutter.replaceChildren(...numbers);
      lines = count;
      marks();
    }
    gutter.scrollTop = text.scrollTop;
  }

  function marks() {
    for (const one of gutter.querySelectorAll("[class]")) one.removeAttribute("class");
    for (const one of document.querySelectorAll("#findings .finding")) {
      const number = gutter.children[one.dataset.line - 1];
      const kind = one.querySelector(".badge").textContent;
      if (number && number.className !== "has-error") number.className = `has-${kind}`;
    }
  }

  text.addEventListener("scroll", () => { gutter.scrollTop = text.scrollTop; });
  document.addEventListener("selectionchange", () => {
    if (document.activeElement !== text) return;
    const before = text.value.slice(0, text.selectionStart).split("\n");
    byId("cursor").textContent = `Line ${before.length}, column ${[...before.at(-1)].length + 1}`;
  });

  document.addEventListener("click", (event) => {
    const finding = event.target.closest(".finding");
    if (!finding) return;
    const [line, column] = [Number(finding.dataset.line), Number(finding.dataset.column)];
    const before = text.value.split("\n");
    const start = before.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    const place = start + [...(before[line - 1] ?? "")].slice(0, column - 1).join("").length;
    text.focus();
    text.setSelectionRange(place, start + (before[line - 1] ?? "").length);
    text.scrollTop = Math.max(0, (line - 4) * parseFloat(getComputedStyle(text).lineHeight));
  });

  // -- saving

  const state = byId("saving-state");
  let kept = byId("kept").value;  // what the file holds, or was downloaded last
  const hasFile = byId("save").hasAttribute("hx-post");
  let isNew = hasFile && !digest.value;

  function showSaving() {
    const changed = text.value !== kept;
    const words = isNew ? "Not written yet" : changed ? "Changed" : hasFile ? "Saved" : "";
    if (state.textContent !== words) state.textContent = words;
    state.className = `saving-state ${changed || isNew ? "is-changed" : "is-saved"}`;
  }

  addEventListener("beforeunload", (event) => { if (text.value !== kept) event.preventDefault(); });

  byId("download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text.value], { type: "application/json" }));
    link.download = byId("document-title").textContent;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    if (!hasFile) kept = text.value;
    showSaving();
    say(`downloaded as ${link.download}`);
  });

  // What was asked first is answered first, also where htmx asks by itself.
  document.body.addEventListener("htmx:confirm", (event) => {
    if (event.target === panel || !waiting) return;
    event.preventDefault();
    last.then(() => event.detail.issueRequest(true));
  });

  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id !== "tried") return;
    clearRefusals();
    const wrong = event.target.querySelector("[data-field]")?.dataset.field;
    if (wrong) byId(`trial-${wrong}`)?.setAttribute("aria-invalid", "true");
    const effect = event.target.querySelector(".effect");
    if (effect) say(effect.textContent);
  });

  document.body.addEventListener("htmx:afterRequest", (event) => {
    const { target, successful, requestConfig } = event.detail;
    if (target?.id !== "outcome") return;
    outcome.hidden = false;
    if (!successful) {
      const why = document.createElement("p");
      why.className = "notice error";
      why.textContent = "There was no answer. Is the explorer still running?";
      outcome.replaceChildren(why);
    }
    // Only what was saved is what the next text may be saved over: what is shown of the file still has to be chosen.
    const saved = outcome.querySelector("[data-kept]");
    if (saved) {
      digest.value = saved.dataset.digest;
      kept = requestConfig.parameters.text ?? requestConfig.parameters.get("text");
      isNew = false;
      showSaving();
    }
    outcome.focus();
    outcome.scrollIntoView({ block: "nearest" });
  });

  outcome.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.id === "close-outcome") {
      outcome.hidden = true;
      outcome.replaceChildren();
      byId("compare").focus();
    } else if (button?.id === "load-saved") {
      const found = byId("saved-text");
      digest.value = found.dataset.digest;
      kept = found.value;
      isNew = false;
      put(found.value);
      step(found.value);
      outcome.hidden = true;
      outcome.replaceChildren();
      text.focus();
      ask("read");
    }
  });

  selected.value = JSON.parse(selected.dataset.atFirst);
  drawGutter();
  readOffers();
  showSaving();
  told = byId("findings-title").textContent;
  if (location.search) byId("panel-title")?.focus({ preventScroll: true });  // past the list, which can be long
})();
