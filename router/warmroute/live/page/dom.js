// Elements, made and changed. What comes from the router or from clients becomes text, never markup.

export const $ = (id) => document.getElementById(id);

// el("td", {class: "n"}, "12", el("b", {}, "x")): attributes by name, `on…` as listeners.
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Touches the document only where something changed: selections and screen readers stay undisturbed.
export function say(element, text) {
  const string = String(text);
  if (element.textContent !== string) element.textContent = string;
}

export function mark(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// Keeps one child of `parent` per item, in the order of the items. `keyOf(item, place)` tells rows apart. `make(item)` returns a row with an `element`;
// `update(row, item)` writes it. `rows` is the caller's Map of what is there.
export function keep(parent, rows, items, keyOf, make, update) {
  const left = new Set(rows.keys());
  let at = parent.firstElementChild;
  for (const [place, item] of items.entries()) {
    const key = keyOf(item, place);
    left.delete(key);
    let row = rows.get(key);
    if (!row) rows.set(key, (row = make(item)));
    update(row, item);
    if (row.element === at) at = at.nextElementSibling;
    else parent.insertBefore(row.element, at);
  }
  for (const key of left) {
    rows.get(key).element.remove();
    rows.delete(key);
  }
}

// A bar of 0 to 1 beside its number; the number says what the bar shows, so readers of screens skip the bar.
export function bar() {
  const fill = el("i");
  const element = el("span", { class: "bar", "aria-hidden": "true" }, fill);
  return {
    element,
    set(share, level = "") {
      fill.style.width = `${(Math.max(0, Math.min(1, share || 0)) * 100).toFixed(1)}%`;
      mark(element, "data-level", level || null);
    },
  };
}
