// What is asked of the router, with the operator's key. The key lives in this tab's storage.

const KEY = "warmroute-admin-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

// The page may lie below a path of a proxy's: the router is where this file's folder is.
const at = (path) => new URL(`../${path}`, import.meta.url);

export function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  return fetch(at(path), { ...options, headers, cache: "no-store", credentials: "same-origin" });
}

// The answer's JSON. Throws Refused with the router's own words.
export async function ask(method, path, body, headers = {}) {
  const json = body === undefined ? {} : { "content-type": "application/json" };
  let answer;
  try {
    answer = await request(path, { method, body, headers: { ...json, ...headers } });
  } catch {
    throw new Refused(0, "the router does not answer");
  }
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

export async function refusal(answer) {
  let message = `the router answered ${answer.status}`;
  try {
    message = (await answer.json()).error.message || message;
  } catch {
    // no JSON: a proxy's page
  }
  return new Refused(answer.status, message);
}

export const workerPath = (id) => `workers/${encodeURIComponent(id)}`;
