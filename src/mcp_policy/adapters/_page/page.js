// The approvals page. What calls say is only ever text: nothing here makes markup of a string.

const find = (selector, inside = document) => inside.querySelector(selector);
const list = find("#waiting");
const cards = new Map(); // by id; a card stays what it is while it is shown, so focus and typed notes stay too
const words = { approved: "Approved", rejected: "Rejected", expired: "Expired", gone: "No longer waits" };
let csrf = "";
let source = null;
let skew = 0; // seconds: the store's clock less this page's

const here = () => performance.now() / 1000;
const now = () => here() + skew;

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function say(text) {
  put(find("#said"), text);
}

function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}:${two(whole % 60)}`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

function clockTime(at) {
  return new Date(Date.now() - (now() - at) * 1000);
}

function shortTime(date) {
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString([], { timeStyle: "medium", ...(today ? {} : { dateStyle: "short" }) });
}

// -- cards

function made(record) {
  const item = find("#card").content.firstElementChild.cloneNode(true);
  const card = { item, article: find("article", item), record, settled: false, gone: false, deciding: false };
  const title = find("h3", item);
  title.id = `title-${record.id}`;
  card.article.setAttribute("aria-labelledby", title.id);
  put(find(".tool", item), record.tool);
  put(find(".server", item), record.server);
  find(".of", item).hidden = !record.server;
  put(find(".reason", item), record.reason);
  put(find(".principal", item), record.who);
  put(find(".rules", item), record.rules);
  put(find(".approvers", item), record.approvers ?? "");
  find(".approvers-row", item).hidden = record.approvers === null;
  find(".votes-row", item).hidden = record.needed < 2;
  showArguments(item, record);
  for (const [selector, approve] of [[".approve", true], [".reject", false]]) {
    const button = find(selector, item);
    put(find(".unseen", button), ` ${record.tool}`);
    button.addEventListener("click", () => decide(card, approve));
  }
  list.append(item);
  return card;
}

function showArguments(item, record) {
  put(find("pre", item), record.arguments);
  put(find(".size", item), `(${record.length.toLocaleString("en")} characters)`);
  find("details", item).open = record.arguments.split("\n").length <= 12 && record.length <= 1000;
  const cut = find(".cut", item);
  const shown = [...record.arguments].length;
  cut.hidden = record.length <= shown;
  if (cut.hidden) return;
  const sizes = [shown, record.length].map((size) => size.toLocaleString("en"));
  put(find("span", cut), `Cut: these are the first ${sizes[0]} of ${sizes[1]} characters.`);
  find("a", cut).href = `arguments/${encodeURIComponent(record.id)}`;
}

function update(card, record) {
  card.record = record;
  put(find(".tally", card.item), `${record.votes.length} of ${record.needed}`);
  const votes = find(".votes", card.item);
  for (let index = 0; index < record.needed && index < 20; index += 1) {
    const line = votes.children[index] ?? votes.appendChild(document.createElement("li"));
    put(line, voted(record.votes[index]));
  }
  if (record.void) settle(card, "void: the policy has changed");
  else if (card.settled && !card.gone) revive(card);
}

function voted(vote) {
  if (!vote) return "nobody yet";
  return `${vote.by}, ${shortTime(clockTime(vote.at))}${vote.note && `: ${vote.note}`}`;
}

function settle(card, text) {
  const outcome = find(".outcome", card.item);
  put(outcome, text);
  if (card.settled) return;
  const form = find("form", card.item);
  const focused = form.contains(document.activeElement);
  card.article.style.setProperty("--form-height", `${form.getBoundingClientRect().height}px`);
  card.article.classList.add("settled");
  card.settled = true;
  put(find(".problem", card.item), "");
  if (focused) outcome.focus({ preventScroll: true });
}

function revive(card) {
  card.settled = false;
  card.article.classList.remove("settled");
  put(find(".outcome", card.item), "");
}

// What is decided leaves once nobody points at the list, or stands in it with the keyboard: nothing moves under a hand.
function tidy() {
  const kept = [...cards.values()].filter((card) => card.gone);
  if (kept.length && !list.matches(":hover, :has(:focus-visible)")) {
    for (const card of kept) {
      card.item.remove();
      cards.delete(card.record.id);
    }
  }
  count();
}

function count() {
  const open = [...cards.values()].filter((card) => !card.settled).length;
  document.title = open ? `(${open}) Approvals` : "Approvals";
  find("#empty").hidden = cards.size > 0;
}

function tick() {
  for (const { item, record, gone } of cards.values()) {
    if (gone) continue;
    const left = record.expires - now();
    put(find(".age", item), `asked ${span(now() - record.asked)} ago`);
    put(find(".left", item), left > 0 ? `expires in ${span(left)}` : "expires now");
  }
}

// -- deciding

async function decide(card, approve) {
  if (card.deciding || card.settled) return;
  const buttons = card.item.querySelectorAll("button");
  const problem = find(".problem", card.item);
  const busy = (is) => {
    card.deciding = is;
    for (const button of buttons) button.setAttribute("aria-disabled", String(is));
  };
  busy(true);
  put(problem, "");
  const note = find("textarea", card.item).value;
  const answer = await asked({ id: card.record.id, approve, note });
  busy(false);
  if (answer.error) put(problem, answer.error);
  else decided(card, answer);
}

async function asked(decision) {
  try {
    const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
    const answer = await fetch("decide", { method: "POST", headers, body: JSON.stringify(decision) });
    const isJson = answer.headers.get("Content-Type")?.startsWith("application/json");
    return isJson ? await answer.json() : { error: "this page is no longer let in: open the printed address again" };
  } catch {
    return { error: "there was no answer: the list will show whether this was decided" };
  }
}

function decided(card, answer) {
  const { tool } = card.record;
  if (answer.outcome === "pending") {
    const people = answer.missing === 1 ? "1 more person has" : `${answer.missing} more people have`;
    find("textarea", card.item).value = "";
    put(find(".outcome", card.item), `You have approved; ${people} to.`);
    say(`You have approved ${tool}; ${people} to.`);
    return;
  }
  card.gone = true;
  settle(card, `${words[answer.outcome]} by ${answer.by}`);
  say(`${words[answer.outcome]}: ${tool}`);
  count();
}

// -- what comes from the server

function received(message) {
  const change = JSON.parse(message.data);
  if (!change.problem && Math.abs(change.now - now()) > 1) skew = change.now - here(); // else it would flicker
  const isFirst = "csrf" in change;
  if (isFirst) greeted(change);
  const fresh = change.changed.filter((record) => !cards.has(record.id));
  for (const record of change.changed) {
    if (!cards.has(record.id)) cards.set(record.id, made(record));
    update(cards.get(record.id), record);
  }
  const missing = isFirst ? [...cards.keys()].filter((id) => !change.changed.some((record) => record.id === id)) : [];
  for (const id of [...change.gone, ...missing]) leave(id, change.decided);
  for (const entry of change.decided) enter(entry);
  if (!isFirst && fresh.length) say(fresh.length === 1 ? `${fresh[0].tool} waits for a decision` : `${fresh.length} calls wait for a decision`);
  connected(change.problem || "live", Boolean(change.problem));
  find("#more").hidden = !change.more;
  put(find("#more"), change.more ? `${change.more.toLocaleString("en")} more wait; they show up as these are decided.` : "");
  tick();
  tidy();
}

function greeted({ by, csrf: secret, home }) {
  csrf = secret;
  if (home) find("#home").href = home;
  find("#home").hidden = !home;
  put(find("#who strong"), by);
  find("#who").hidden = false;
  find("#decided").replaceChildren();
  find("#none").hidden = false;
}

function leave(id, entries) {
  const card = cards.get(id);
  if (!card || card.gone) return;
  const entry = entries.find((one) => one.id === id);
  card.gone = true;
  const text = entry ? told(entry) : "No longer waits";
  if (!card.record.void) say(`${card.record.tool}: ${text}`);
  settle(card, text);
}

function told({ outcome, by }) {
  if (outcome === "gone") return "No longer waits: decided elsewhere and used, or expired";
  return by ? `${words[outcome]} by ${by}` : words[outcome];
}

function enter(entry) {
  const item = find("#entry").content.firstElementChild.cloneNode(true);
  const mark = { approved: "✓", rejected: "✕" }[entry.outcome] ?? "–";
  put(find(".word", item), `${mark} ${words[entry.outcome]}`);
  put(find(".tool", item), entry.tool);
  put(find(".server", item), entry.server);
  find(".of", item).hidden = !entry.server;
  put(find(".by", item), entry.outcome === "gone" ? "(decided elsewhere and used, or expired)" : entry.by && `by ${entry.by}`);
  const date = clockTime(entry.at ?? now());
  find("time", item).dateTime = date.toISOString();
  put(find("time", item), shortTime(date));
  for (const vote of entry.votes.filter((one) => one.note)) {
    const note = find(".notes", item).appendChild(document.createElement("li"));
    put(note, entry.votes.length > 1 ? `${vote.by}: ${vote.note}` : vote.note);
  }
  const entries = find("#decided");
  entries.prepend(item);
  while (entries.children.length > 100) entries.lastElementChild.remove();
  find("#none").hidden = true;
}

function connected(text, bad) {
  put(find("#connection"), text);
  find("#connection").classList.toggle("bad", bad);
}

function connect() {
  if (source && source.readyState !== EventSource.CLOSED) return;
  source = new EventSource("events");
  source.addEventListener("message", received);
  source.addEventListener("elsewhere", () => {
    source.close();
    connected("paused: this page is open in other tabs; it goes on when you return to it", true);
  });
  source.addEventListener("error", () => {
    const refused = source.readyState === EventSource.CLOSED;
    connected(refused ? "no longer let in: open the printed address again" : "no connection: trying again", true);
  });
}

list.addEventListener("pointerleave", tidy);
list.addEventListener("focusout", () => setTimeout(tidy));
window.addEventListener("focus", connect);
document.addEventListener("visibilitychange", () => document.hidden || connect());
setInterval(tick, 1000);
connect();
