/* Small tools over the DOM.

   Owns: filling templates and changing only what has changed, so that an update touches as little of the page as
   it can. Never: HTML from a string; every text goes in as text. Knows nothing of fe. */

/** A copy of a template: its first element, and the elements named by `data-slot`. */
export function clone(id) {
  const fragment = document.getElementById(id).content.cloneNode(true);
  return { root: fragment.firstElementChild, fragment, ...slots(fragment) };
}

/** The elements below `node` by their `data-slot`. */
export function slots(node) {
  return Object.fromEntries([...node.querySelectorAll("[data-slot]")].map((one) => [one.dataset.slot, one]));
}

export function text(node, value) {
  const string = String(value);
  if (node.textContent !== string) node.textContent = string;
}

export function attribute(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, String(value));
  }
}

/** A custom property for the style sheet: the policy allows the CSSOM, not style attributes. */
export function property(node, name, value) {
  if (node.style.getPropertyValue(name) !== String(value)) node.style.setProperty(name, String(value));
}

export function shown(node, is) {
  if (node.hidden === is) node.hidden = !is;
}

/** Children that follow a list of items: each keeps its element as long as its key is there.

    `create(key)` gives a view with a `root`, `update(view, item)` fills it. Elements move when the order changes. */
export class Keyed {
  constructor(parent, create, update) {
    this.parent = parent;
    this.create = create;
    this.update = update;
    this.views = new Map();
  }

  sync(items, keyOf) {
    const keyed = withKeys(items, keyOf);
    for (const [key, view] of this.views) {
      if (keyed.has(key)) continue;
      view.root.remove();
      this.views.delete(key);
    }
    let next = this.parent.firstElementChild;
    for (const [key, item] of keyed) {
      let view = this.views.get(key);
      if (!view) this.views.set(key, (view = this.create(key)));
      if (view.root === next) next = next.nextElementSibling;
      else this.parent.insertBefore(view.root, next);
      this.update(view, item);
    }
  }
}

/** Items by key, in their order; the second of two with one key gets another, so that both are shown. */
function withKeys(items, keyOf) {
  const keyed = new Map();
  for (const item of items) {
    let key = keyOf(item);
    while (keyed.has(key)) key = `${key} again`;
    keyed.set(key, item);
  }
  return keyed;
}
