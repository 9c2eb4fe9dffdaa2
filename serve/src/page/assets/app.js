// The page: who is looked at, what is asked of the server when, and what happens to the list when something changed.
import * as api from "./api.js";
import { picker } from "./picker.js";
import * as views from "./views.js";
import { cacheWords, degradedWords, firstName, list, nameOf, split } from "./words.js";

const K = 10;
const NEAR = 8;
const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Who is shown, what is known of them, the list as it stands, and as it stood before the last change. */
const now = { user: null, known: {}, items: [], baseline: [], visit: new AbortController(), again: 0 };

/* ---- showing ---------------------------------------------------------------------------------------------------- */

/** Shows an answer. `changed`: because of an event; `again`: the same question once more, with what was missing. */
function showList(answer, took, { changed, again }) {
  const cards = $("cards");
  const before = new Map([...cards.children].map((c) => [c.dataset.item, c.getBoundingClientRect().top]));
  if (!again) now.baseline = changed ? now.items : [];
  const places = new Map(now.baseline.map((id, i) => [id, i]));
  const marked = now.baseline.length > 0;
  const focused = document.activeElement?.closest?.(".card") ? document.activeElement.dataset.act : null;

  const rows = answer.recommendations.map((r, i) => views.card(r, i + 1, now.known, go, act));
  cards.replaceChildren(...rows);
  now.items = answer.recommendations.map((r) => r.item_id);
  if (!rows.length) cards.append(views.el("li", { class: "none soft" }, "There is nothing to recommend yet: the catalogue is empty."));

  const moved = { fresh: 0, up: 0, down: 0 };
  rows.forEach((row, i) => {
    const was = places.get(row.dataset.item);
    if (marked) mark(row, was, i, moved);
    if (marked && !calm.matches) glide(row, before.get(row.dataset.item));
  });
  // The button that was pressed is gone with its item; the keyboard goes on at the head of the list.
  if (focused) (cards.querySelector(`[data-act=${focused}]`) ?? $("list")).focus({ preventScroll: true });

  $("facts").replaceChildren(
    views.el("span", { "data-fact": "time" }, `${took < 9.95 ? took.toFixed(1) : Math.round(took)} ms`),
    views.el("span", { "data-fact": "cache" }, cacheWords(answer.cache)),
    views.el("span", { "data-fact": "model", title: answer.model }, answer.model));
  views.legend(answer.recommendations);
  return moved;
}

function mark(row, was, is, moved) {
  const sign = row.querySelector(".move");
  if (was === undefined) {
    moved.fresh += 1;
    sign.textContent = "new";
    row.classList.add("fresh");
  } else if (was !== is) {
    moved[was > is ? "up" : "down"] += 1;
    sign.textContent = was > is ? `↑ ${was - is}` : `↓ ${is - was}`;
    sign.classList.toggle("down", was < is);
  }
}

/** Lets an element go from where it was to where it is. */
function glide(row, top) {
  const options = { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" };
  const step = top === undefined ? 0 : top - row.getBoundingClientRect().top;
  if (top === undefined) row.animate([{ opacity: 0, transform: "translateY(10px)" }, { opacity: 1, transform: "none" }], options);
  else if (step) row.animate([{ transform: `translateY(${step}px)` }, { transform: "none" }], options);
}

function showDegraded(names) {
  const notice = $("degraded");
  notice.hidden = names.length === 0;
  notice.textContent = degradedWords(names);
  notice.dataset.sources = names.join(" ");
}

const say = (text) => { $("news").textContent = text; };

/* ---- asking ----------------------------------------------------------------------------------------------------- */

async function timed(promise) {
  const begun = performance.now();
  const answer = await promise;
  return [answer, performance.now() - begun];
}

/** Looks at someone. */
function go(user, { push = true } = {}) {
  if (!user) return;
  now.visit.abort();
  now.visit = new AbortController();
  Object.assign(now, { user, known: {}, items: [], baseline: [] });
  if (push) history.pushState({}, "", `#user=${encodeURIComponent(user)}`);
  document.title = `${nameOf(user)} · Nearcast`;
  $("write-label").textContent = `Write as ${firstName(user)}`;
  $("list-title").textContent = `For ${firstName(user)}`;
  say("");
  return refresh({});
}

/** Asks for everything about who is shown. With `after` the answers reflect that token; `begun` is when the change was made. */
async function refresh({ after, begun, said, again = false }) {
  const { user, visit } = now;
  const { signal } = visit;
  $("page").setAttribute("aria-busy", "true");
  try {
    const [answer, took] = await timed(api.recommendations(user, { k: K, after, signal }));
    const [known, near] = await Promise.all([api.user(user, signal), api.similar(user, NEAR, signal)]);
    if (signal.aborted) return;
    now.known = known;
    const changed = Boolean(said);
    const moved = showList(answer, took, { changed, again });
    views.who(user, known);
    views.past(known);
    views.near(near.similar ?? [], go);
    const missing = [...new Set([answer, known, near].flatMap((a) => a.degraded ?? []))];
    showDegraded(missing);
    if (changed) say(`${said} ${movedWords(moved, (performance.now() - begun) / 1000)}`);
    fine();
    if (missing.includes("after")) later(700, { after, begun, said, again: true });
    else if (missing.length) later(3000, { again: true });
  } catch (error) {
    if (error.name !== "AbortError") trouble(error, () => refresh({ after, begun, said }));
  } finally {
    if (!signal.aborted) $("page").setAttribute("aria-busy", "false");
  }
}

/** Looks again after a while, unless someone else is shown by then. */
function later(ms, what) {
  const { visit } = now;
  setTimeout(() => { if (!visit.signal.aborted) refresh(what); }, ms);
}

function movedWords({ fresh, up, down }, seconds) {
  const parts = [fresh && `${fresh} new`, up && `${up} up`, down && `${down} down`].filter(Boolean);
  return parts.length ? `In ${seconds.toFixed(2)} s: ${list(parts)}.` : "The list stays as it is.";
}

/** States an event of who is shown, and shows what follows from it. */
async function state(event, said) {
  const begun = performance.now();
  try {
    const after = await api.send({ ...event, user_id: now.user });
    await refresh({ after, begun, said });
    return true;
  } catch (error) {
    trouble(error);
    return false;
  }
}

const SAID = { view: "viewed", like: "liked", purchase: "bought" };

async function act(kind, recommended, title) {
  const card = document.querySelector(`.card[data-item="${CSS.escape(recommended.item_id)}"]`);
  card?.classList.add("leaving");
  const item = recommended.item_id;
  const ok = await state({ type: "engagement", item_id: item, kind, value: 1 }, `${firstName(now.user)} ${SAID[kind]} ${title}.`);
  if (!ok) card?.classList.remove("leaving");
}

$("write").addEventListener("submit", async (e) => {
  e.preventDefault();
  const text = $("text").value.trim();
  if (!text || $("send").disabled) return void $("text").focus();
  $("send").disabled = true;
  if (await state({ type: "message", text }, "Sent.")) $("text").value = "";
  $("send").disabled = false;
});
$("text").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) $("write").requestSubmit();
});

/* ---- trouble ---------------------------------------------------------------------------------------------------- */

function fine() {
  clearTimeout(now.again);
  $("trouble").hidden = true;
  document.body.classList.remove("offline");
}

/** Says what is wrong, and goes on by itself where that can help. `retry` is what to do then. */
function trouble(error, retry) {
  clearTimeout(now.again);
  const notice = $("trouble");
  notice.hidden = false;
  if (error.kind === "gone") {
    document.body.classList.add("offline");
    notice.textContent = "Nearcast does not answer. Is it still running? This page goes on as soon as it is back.";
    const look = async () => {
      if (await api.alive()) return void (retry ?? (() => refresh({})))();
      now.again = setTimeout(look, 1500);
    };
    now.again = setTimeout(look, 1500);
  } else if (error.kind === "busy" && retry) {
    notice.textContent = "Nearcast is busy. Trying again in a moment.";
    now.again = setTimeout(retry, error.retryAfter * 1000);
  } else if (error.kind) {
    notice.textContent = `That did not work: ${error.message}`;
  } else {
    notice.textContent = "Something went wrong on this page. Reload it to go on.";
    console.error(error);
  }
}

/* ---- beginning -------------------------------------------------------------------------------------------------- */

const fromAddress = () => new URLSearchParams(location.hash.slice(1)).get("user");

async function someone() {
  const letter = "abcdefghijklmnopqrstuvwxyz"[Math.floor(Math.random() * 26)];
  const found = await api.people(letter, 100);
  const from = found.length ? found : await api.people("", 100);
  return from[Math.floor(Math.random() * from.length)];
}

async function begin() {
  try {
    const user = fromAddress() ?? (await api.people("", 1))[0];
    if (user) return void (await go(user, { push: false }));
    $("me-name").textContent = "Nobody here yet";
    $("me-sum").textContent = "Send events, or start with: nearcast demo";
    $("page").setAttribute("aria-busy", "false");
    fine();
  } catch (error) {
    trouble(error, begin);
  }
}

picker($("picker"), go, (error) => trouble(error));
$("surprise").addEventListener("click", () => someone().then(go, trouble));
addEventListener("popstate", () => go(fromAddress(), { push: false }));
begin();
