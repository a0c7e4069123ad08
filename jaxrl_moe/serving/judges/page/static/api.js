// Calls of the server. What does not reach it is tried again until it does: every call may come twice without
// harm, so a restart of the server, or a tunnel, costs a judge nothing but the wait.
import {fill, h} from "./dom.js";

const FIRST_WAIT = 500;  // milliseconds
const LONGEST_WAIT = 10_000;
const trouble = document.getElementById("trouble");
let csrf = "";

// Nobody is logged in.
export class LoggedOut extends Error {}

// The server has understood, and will not.
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The server was not reached, or failed.
export class Unreached extends Error {}

// The session of this browser: {judge, lease_seconds}.
export async function enter() {
  return entered(await call("session"));
}

// A new one; without a second try, since those are counted.
export async function login(token) {
  return entered(await once("login", {token}));
}

function entered(answer) {
  csrf = answer.csrf;
  return answer;
}

// The answer to a GET, or with a body to a POST, however often it must be asked for.
export async function call(path, body) {
  let renewed = false;
  for (let tries = 0; ; tries++) {
    try {
      const answer = await once(path, body);
      fill(trouble);
      return answer;
    } catch (error) {
      if (error instanceof Refused && error.status === 403 && !renewed) {
        renewed = true;  // another tab has logged in since
        await enter();
      } else if (error instanceof Unreached) await patience(error, tries);
      else {
        fill(trouble);
        throw error;
      }
    }
  }
}

// One try.
export async function once(path, body) {
  const post = {method: "POST", headers: {"Content-Type": "application/json", "X-CSRF-Token": csrf}, body: JSON.stringify(body)};
  let answer, values;
  try {
    answer = await fetch(`/api/${path}`, body === undefined ? {} : post);
    values = await answer.json();
  } catch {
    throw new Unreached("The server does not answer.");
  }
  if (answer.ok) return values;
  const message = values.error?.message ?? `The server answered ${answer.status}.`;
  if (answer.status >= 500) throw new Unreached(message);
  if (answer.status === 401 && path !== "login") throw new LoggedOut(message);
  throw new Refused(answer.status, message);
}

// Waits longer each time, unless somebody is impatient.
function patience(error, tries) {
  const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** tries) * (0.75 + Math.random() / 2);
  return new Promise(resolve => {
    const timer = setTimeout(resolve, wait);
    const now = () => {
      clearTimeout(timer);
      resolve();
    };
    fill(trouble, h("p", {class: "notice"}, `${error.message} Trying again; nothing that you entered is lost. `,
                    h("button", {class: "plain", onclick: now}, "Try now")));
  });
}
