// The search for a person: a combobox with a list, by mouse, touch or keys (ARIA 1.2). Knows people by their ids only.
import * as api from "./api.js";
import { nameOf } from "./words.js";

const LIMIT = 8;

/** Makes the form a picker. `choose(id)` is called with who was picked; `fail(error)` when nobody can be looked up. */
export function picker(form, choose, fail) {
  const input = form.querySelector("input");
  const list = form.querySelector("[role=listbox]");
  let options = [];
  let active = -1;
  let asked = null;

  const close = () => {
    asked?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };

  const mark = (next) => {
    active = next;
    [...list.children].forEach((o, i) => o.setAttribute("aria-selected", String(i === active)));
    const option = list.children[active];
    if (option?.id) {
      input.setAttribute("aria-activedescendant", option.id);
      option.scrollIntoView({ block: "nearest" });
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  };

  const pick = (option) => {
    if (!option) return;
    close();
    input.value = "";
    input.blur();
    choose(option.user);
  };

  const show = (found, typed) => {
    options = found.map((user) => ({ user, text: nameOf(user), note: user === nameOf(user) ? "" : user }));
    if (typed && !found.includes(typed)) options.push({ user: typed, text: `Begin as “${typed}”`, note: "someone new", fresh: true });
    list.replaceChildren(...options.map((o, i) => {
      const li = document.createElement("li");
      li.id = `person-${i}`;
      li.setAttribute("role", "option");
      li.classList.toggle("fresh", Boolean(o.fresh));
      const name = document.createElement("span");
      name.textContent = o.text;
      const note = document.createElement("small");
      note.textContent = o.note;
      li.append(name, note);
      li.addEventListener("pointerdown", (e) => e.preventDefault());
      li.addEventListener("click", () => pick(o));
      return li;
    }));
    list.hidden = options.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    mark(typed && found.length ? 0 : -1);
  };

  const search = async () => {
    asked?.abort();
    asked = new AbortController();
    const typed = input.value.trim();
    const prefix = typed.includes(" ") ? typed.toLowerCase().replace(/\s+/g, ".") : typed;
    try {
      let found = await api.people(prefix, LIMIT, asked.signal);
      // Ids are case-sensitive; people who type a name are not.
      if (!found.length && prefix !== prefix.toLowerCase()) found = await api.people(prefix.toLowerCase(), LIMIT, asked.signal);
      if (document.activeElement === input) show(found, typed);
    } catch (error) {
      if (error.name !== "AbortError") fail(error);
    }
  };

  input.addEventListener("input", search);
  input.addEventListener("focus", search);
  input.addEventListener("blur", () => { close(); input.value = ""; });
  input.addEventListener("keydown", (e) => {
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      if (list.hidden) return void search();
      const step = e.key === "ArrowDown" ? 1 : -1;
      mark((active + step + options.length + (active < 0 && step < 0 ? 1 : 0)) % options.length);
    } else if (e.key === "Escape") {
      if (list.hidden) input.blur();
      close();
    }
  });
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    pick(options[active] ?? options[0]);
  });
  addEventListener("keydown", (e) => {
    if (e.key === "/" && !e.ctrlKey && !e.metaKey && !e.target.closest("input, textarea")) {
      e.preventDefault();
      input.focus();
    }
  });
}
