// Calls to the server, and what can go wrong with them. Knows nothing of the page.

/** The server did not answer, or with an error. `gone`: not reachable; `busy`: too much at once; else `detail` says why. */
export class CallError extends Error {
  constructor(kind, detail, retryAfter = 2) {
    super(detail);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, signal: options.signal ?? AbortSignal.timeout(10_000) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError("gone", "Nearcast does not answer.");
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok) return body ?? {};
  if (answer.status === 429 || answer.status === 503) {
    throw new CallError("busy", "Nearcast is busy.", Number(answer.headers.get("retry-after")) || 2);
  }
  throw new CallError("refused", body?.detail || body?.title || `The server answered ${answer.status}.`);
}

const part = encodeURIComponent;

/** People whose id begins so, in the order of their ids. */
export const people = async (prefix, limit, signal) =>
  (await call(`/users?prefix=${part(prefix)}&limit=${limit}`, { signal })).users ?? [];

/** What someone wrote and did. */
export const user = (id, signal) => call(`/users/${part(id)}`, { signal });

/** Who is near someone: `{similar: [{user_id, score}]}`, the nearest first. */
export const similar = (id, limit, signal) => call(`/users/${part(id)}/similar?k=${limit}`, { signal });

/** Recommendations; `after` is the token of events that they must reflect. */
export const recommendations = (id, { k, after, signal }) =>
  call(`/recommendations/${part(id)}?k=${k}${after ? `&after=${part(after)}` : ""}`, { signal });

const items = new Map();

/** An item, remembered; null where it is unknown. */
export function item(id) {
  if (!items.has(id)) {
    const found = call(`/items/${part(id)}`).catch((error) => {
      if (error.kind !== "refused") items.delete(id);
      return null;
    });
    items.set(id, found);
  }
  return items.get(id);
}

/** States one event; answers the token under which to wait for its effect. */
export async function send(event) {
  const body = JSON.stringify(event);
  const answer = await call("/events", { method: "POST", headers: { "content-type": "application/json" }, body });
  if (answer.rejected?.length) throw new CallError("refused", answer.rejected[0].reason);
  return answer.token;
}

/** Whether the server is there again. */
export const alive = () => fetch("/health/live", { signal: AbortSignal.timeout(3000) }).then((a) => a.ok, () => false);
