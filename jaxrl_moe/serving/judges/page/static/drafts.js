// What a judge has entered and not sent yet, kept in the browser by the lease's token.

const PREFIX = "draft:";
const OLDEST = 7 * 24 * 3600 * 1000;  // milliseconds

export function saveDraft(token, draft) {
  try {
    localStorage.setItem(PREFIX + token, JSON.stringify({...draft, at: Date.now()}));
  } catch {}  // a browser that keeps nothing: a reload loses the draft
}

export function readDraft(token) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + token)) ?? {};
  } catch {
    return {};
  }
}

export function dropDraft(token) {
  try {
    localStorage.removeItem(PREFIX + token);
  } catch {}
}

// Drops those that are older than a week, or all.
export function dropDrafts(all = false) {
  try {
    for (const key of Object.keys(localStorage).filter(key => key.startsWith(PREFIX))) {
      const token = key.slice(PREFIX.length);
      if (all || !(Date.now() - readDraft(token).at < OLDEST)) dropDraft(token);
    }
  } catch {}
}
