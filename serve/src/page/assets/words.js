// From ids, kinds and sources to words. Pure functions, no document.

/** `maya.okafor` to `Maya Okafor`, for ids that look like names; others stay as they are. */
export function nameOf(id) {
  if (!/^\p{L}+([._-]\p{L}+)+$/u.test(id)) return id;
  return id.split(/[._-]/).map((w) => w[0].toUpperCase() + w.slice(1)).join(" ");
}

/** How to call someone in passing. */
export const firstName = (id) => nameOf(id).split(" ")[0];

/** One or two letters for a face. */
export function initials(id) {
  const letters = nameOf(id).split(/[\s._-]+/).map((w) => [...w][0] ?? "").join("");
  return [...letters].slice(0, 2).join("").toUpperCase();
}

/** A hue that belongs to an id: the same on every visit. */
export function hue(id) {
  let sum = 7;
  for (const c of id) sum = (sum * 31 + c.codePointAt(0)) % 360;
  return sum;
}

/** Title and description out of an item's text. */
export function split(text, id) {
  const whole = (text ?? "").trim();
  if (!whole) return { title: id, detail: "" };
  const end = whole.search(/[.!?]\s+(?=\p{Lu})/u);
  const cut = end > 0 && end <= 90 ? end : whole.length <= 90 ? whole.length : -1;
  if (cut < 0) return { title: `${whole.slice(0, 70).replace(/\s+\S*$/, "")}…`, detail: whole };
  return { title: whole.slice(0, cut).replace(/\.$/, ""), detail: whole.slice(cut + 1).trim() };
}

const DONE = {
  view: "viewed", click: "opened", like: "liked", purchase: "bought", message: "wrote about", dislike: "disliked",
};
const RANK = ["view", "click", "message", "rating", "like", "purchase"];

/** What someone did, in the past tense. */
export function done({ kind, value }) {
  if (kind === "rating") return `rated ${Number.isInteger(value) ? value : value.toFixed(1)}\u202f★`;
  return DONE[kind] ?? kind;
}

/** The strongest thing that someone did with an item, as "liked". */
export function strongest(engagements) {
  const best = [...engagements].sort((a, b) => RANK.indexOf(b.kind) - RANK.indexOf(a.kind))[0];
  return best ? (best.kind === "rating" ? "rated" : done(best)) : "know";
}

/** Sources by the name of the API: what they are, and what is missing without them. */
export const SOURCES = {
  graph: { label: "Goes with earlier choices", missing: "items that go with earlier ones" },
  learned: { label: "Follows from earlier choices", missing: "what follows from earlier choices" },
  similar_users: { label: "Chosen by similar people", missing: "similar people" },
  similar_text: { label: "Close to what was written", missing: "items close to what was written" },
  trending: { label: "Rising now", missing: "what is rising" },
  newest: { label: "New here", missing: "new items" },
};
const OTHER_MISSING = { ledger: "the history", cache: "the answer cache" };

/** The notice for sources that did not answer. */
export function degradedWords(names) {
  const late = names.includes("after");
  const missing = names.filter((n) => n !== "after").map((n) => SOURCES[n]?.missing ?? OTHER_MISSING[n] ?? n);
  const sentences = [];
  if (missing.length) sentences.push(`Did not answer in time: ${list(missing)}. The list is made from everything else.`);
  if (late) sentences.push("The latest change has not arrived yet; looking again.");
  return sentences.join(" ");
}

/** `a, b and c`. */
export const list = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);

const CACHE = { miss: "made just now", hit: "from the cache", stale: "from before" };

/** How an answer came to be, in words. */
export const cacheWords = (state) => CACHE[state] ?? state;

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const UNITS = [["year", 31_536_000], ["month", 2_592_000], ["week", 604_800], ["day", 86_400], ["hour", 3600], ["minute", 60]];

/** `3 weeks ago`. */
export function ago(time) {
  const seconds = (new Date(time) - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, s]) => Math.abs(seconds) >= s) ?? ["second", 1];
  return unit === "second" ? "just now" : relative.format(Math.round(seconds / size), unit);
}

/** `1 message`, `2 messages`. */
export const counted = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
