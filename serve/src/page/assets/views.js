// From data to elements. Changes nothing on the server and asks nothing of it but the names of items.
import * as api from "./api.js";
import { SOURCES, ago, counted, done, hue, initials, nameOf, split, strongest } from "./words.js";

/** An element with attributes, listeners (`onclick`) and children. Texts are set as texts, never as HTML. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== ""));
  return node;
}

/** A disc with initials in the colour of an id. */
export function face(node, id) {
  node.textContent = initials(id);
  node.style.setProperty("--hue", hue(id));
  return node;
}

/** How many events of each sort the server tells. */
const PAGE = 50;

/** Who this is and how much is known of them. */
export function who(id, known) {
  face(document.getElementById("me-face"), id);
  document.getElementById("me-name").textContent = nameOf(id);
  const acts = (known.engagements ?? []).filter((e) => e.kind !== "message");
  const n = { m: known.messages?.length ?? 0, e: acts.length };
  // The server tells the latest of each; where it tells a full page, there may be more.
  const words = [[n.m, "message"], [n.e, "action"]].map(([k, word]) => (k >= PAGE ? `${k} or more ${word}s` : counted(k, word))).join(" · ");
  document.getElementById("me-sum").replaceChildren(
    id === nameOf(id) ? "" : el("span", {}, id),
    el("span", {}, n.m + n.e ? words : "Nobody knows them yet"));
}

/** What someone wrote and did, newest first, the actions on one item together. */
export function past(known) {
  const entries = (known.messages ?? []).map((m) => ({ at: m.timestamp, message: m }));
  const byItem = new Map();
  for (const e of known.engagements ?? []) {
    if (e.kind === "message") continue;
    const entry = byItem.get(e.item_id) ?? { at: e.timestamp, item: e.item_id, text: e.text, acts: [] };
    entry.acts.push(e);
    if (e.timestamp > entry.at) entry.at = e.timestamp;
    byItem.set(e.item_id, entry);
  }
  entries.push(...byItem.values());
  entries.sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
  const rows = entries.slice(0, 40).map((entry) => {
    const time = el("time", { datetime: entry.at, title: new Date(entry.at).toLocaleString("en") }, ago(entry.at));
    if (entry.message) return el("li", { class: "said" }, el("q", {}, entry.message.text), el("p", { class: "soft" }, time));
    const acts = [...entry.acts].sort((a, b) => (a.timestamp < b.timestamp ? -1 : 1));
    const verbs = [...new Set(acts.map(done))].join(", ");
    return el("li", { class: "did" }, el("span", {}, split(entry.text, entry.item).title), el("p", { class: "soft" }, `${verbs} · `, time));
  });
  if (!rows.length) rows.push(el("li", { class: "soft none" }, "Nothing yet. Write something, or click an item."));
  document.getElementById("past").replaceChildren(...rows);
}

/** Who is near. `go(id)` looks at them. */
export function near(people, go) {
  const rows = people.map((p) =>
    el("li", {}, el("button", { type: "button", onclick: () => go(p.user_id) },
      face(el("span", { class: "face small", "aria-hidden": "true" }), p.user_id),
      el("span", {}, nameOf(p.user_id)),
      el("span", { class: "soft num" }, Number.isFinite(p.score) ? `${Math.round(p.score * 100)}\u202f%` : ""))));
  if (!rows.length) rows.push(el("li", { class: "soft none" }, "Nobody yet. It takes a message or two."));
  document.getElementById("near").replaceChildren(...rows);
}

/** The meaning of the colours, for the sources that had a part in this list. */
export function legend(recommendations) {
  const used = Object.keys(SOURCES).filter((s) => recommendations.some((r) => r.reasons.some((x) => x.source === s)));
  const rows = used.map((s) => el("li", {}, el("i", { class: `dot ${s}`, "aria-hidden": "true" }), SOURCES[s].label));
  document.getElementById("legend").replaceChildren(...(rows.length ? [el("h3", {}, "Why these"), el("ul", {}, rows)] : []));
}

/** One source's reason as a sentence. `known` says what the person did; `go` looks at another person. */
function reason(r, known, go) {
  const names = (r.via ?? []).slice(0, 2);
  const joined = (nodes) => nodes.flatMap((n, i) => (i === 0 ? [n] : [" and ", n]));
  if (r.source === "similar_users") {
    if (!names.length) return ["Because people near you chose it"];
    return ["Because people near you, like ", ...joined(names.map((u) => person(u, go))), ", chose it"];
  }
  if (r.source === "graph" || r.source === "learned") {
    if (!names.length) return ["Because it goes with what you chose"];
    const id = names[0];
    const title = el("em", {}, id);
    const own = (known.engagements ?? []).filter((e) => e.item_id === id);
    if (own[0]?.text) title.textContent = split(own[0].text, id).title;
    else api.item(id).then((i) => { if (i) title.textContent = i.attributes?.title ?? split(i.text, id).title; });
    return ["Because it goes with ", title, `, which you ${strongest(own)}`];
  }
  if (r.source === "similar_text") return ["Because it is close to what you write about"];
  if (r.source === "trending") return ["Rising now"];
  if (r.source === "newest") return ["New in the catalogue"];
  return [r.source];
}

const ALSO = { graph: "goes with what you chose", learned: "follows from what you chose", similar_text: "close to what you write", trending: "rising now", newest: "new" };
/** The smallest share of a score that is worth a word. */
const WORTH = 0.06;

/** The other sources' parts, after the strongest. */
function others(reasons, go) {
  const parts = reasons.filter((r) => r.weight >= WORTH).slice(0, 2).map((r) => {
    if (r.source !== "similar_users") return [ALSO[r.source] ?? r.source];
    return r.via?.length ? ["chosen by people near you, like ", person(r.via[0], go)] : ["chosen by people near you"];
  });
  return el("span", { class: "soft" }, ...parts.flatMap((p, i) => [i === 0 ? "; also " : " and ", ...p]), ".");
}

/** A name that leads to the person. */
const person = (id, go) => el("button", { type: "button", class: "link", onclick: () => go(id) }, nameOf(id));

const ACTS = [["view", "View"], ["like", "Like"], ["purchase", "Buy"]];

/** One recommendation. `act(kind, item)` is told of clicks. */
export function card(r, place, known, go, act) {
  const { title, detail } = split(r.text, r.item_id);
  const [first, ...rest] = r.reasons ?? [];
  const bar = el("span", { class: "bar", "aria-hidden": "true" }, (r.reasons ?? []).map((x) => {
    const piece = el("i", { class: x.source });
    piece.style.flexGrow = String(Math.max(x.weight, 0.03));
    return piece;
  }));
  const li = el("li", { class: "card", "data-item": r.item_id },
    el("span", { class: "place num", "aria-hidden": "true" }, String(place)),
    el("h3", {}, el("span", {}, title), " ", el("span", { class: "move" })),
    el("div", { class: "acts", role: "group", "aria-label": title }, ACTS.map(([kind, label]) =>
      el("button", { type: "button", class: kind === "purchase" ? "buy" : "", "data-act": kind, onclick: () => act(kind, r, title) }, label))),
    detail ? el("p", { class: "detail" }, detail) : "",
    el("p", { class: "why" }, bar, el("span", {}, first ? reason(first, known, go) : "", others(rest, go)),
      el("span", { class: "score num soft", title: "Score, 0 to 1" }, Number.isFinite(r.score) ? r.score.toFixed(2) : "")));
  return li;
}
