// Making and changing elements. Owns: `h`, and writes that touch the page only where something differs. May not live
// here: what is shown. Text is always set as text: names come from engines, and none of them is ever read as HTML.

/** An element: `h("p.soft", {id: "x"}, "text", child)`. Attributes that are null, undefined or false are left out. */
export function h(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** An element of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Set the text of an element whose only child is text, if it is another one. */
export function text(node, value) {
  const wanted = String(value);
  if (node.firstChild === null) node.append(wanted);
  else if (node.firstChild.data !== wanted) node.firstChild.data = wanted;
}

/** Set an attribute, or take it away (null, false), if it is another one. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

/** Show an element or not. */
export function shown(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** Replace the children of an element, if `key` is another one than last time. */
export function fill(node, key, make) {
  if (node.dataset.key === key) return;
  node.dataset.key = key;
  node.replaceChildren(...make());
}
