// The form by which a judge comes in.
import {fill, h} from "./dom.js";
import {login} from "./api.js";

export function loginForm(entered) {
  const token = h("input", {type: "password", id: "token", required: true, maxlength: 200, autocomplete: "current-password", "aria-describedby": "why"});
  const why = h("p", {id: "why", class: "why", role: "alert"});
  const button = h("button", {class: "submit"}, "Come in");
  const come = async event => {
    event.preventDefault();
    button.disabled = true;
    try {
      entered(await login(token.value.trim()));
    } catch (error) {
      fill(why, error.message);
      token.select();
    } finally {
      button.disabled = false;
    }
  };
  return h("form", {class: "login", onsubmit: come}, h("h1", {}, "Judging"), h("label", {for: "token"}, "Your personal token"), token, why, button);
}
