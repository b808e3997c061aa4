"use strict";
{
  // Names reach the page only as text: no string here becomes HTML.
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const queries = all(".query");
  const matches = all(".match");
  const view = one(".view");
  const help = one(".help");
  const large = one(".stage img");
  const chosen = new Set();
  const last = new Map(); // the last focused match of each query
  let current = null; // the match that is focused or enlarged
  let seen = null; // the last match enlarged

  const spot = (match) => one(".picture", match);
  const queryOf = (match) => match.closest(".query");
  const visible = (within = document) => all(".match:not([hidden])", within);
  const copy = (from, to) => to.replaceChildren(...[...from.childNodes].map((node) => node.cloneNode(true)));

  // Focus: Tab moves between queries, arrows between matches.

  function take(match) {
    current = match;
    last.set(queryOf(match), match);
    settle();
  }

  function settle() {
    for (const query of queries) {
      const there = visible(query);
      const stop = there.includes(last.get(query)) ? last.get(query) : there[0];
      for (const match of all(".match", query)) spot(match).tabIndex = match === stop ? 0 : -1;
    }
  }

  function go(match) {
    if (!match) return;
    take(match);
    if (view.open) show(match);
    else spot(match).focus();
  }

  function step(by) {
    const there = visible();
    const place = there.indexOf(current);
    go(place < 0 ? there[0] : there[place + by]);
  }

  function climb(by) {
    const box = current.getBoundingClientRect();
    const middle = box.left + box.width / 2;
    let best = null;
    let least = Infinity;
    for (const match of visible()) {
      const other = match.getBoundingClientRect();
      const down = (other.top - box.top) * by;
      const far = down * 10 + Math.abs(other.left + other.width / 2 - middle);
      if (down > 1 && far < least) [best, least] = [match, far];
    }
    go(best);
  }

  function toQuery(number) {
    const query = queries[number];
    if (!query) return;
    const first = visible(query)[0];
    if (first) go(first);
    if (!view.open) query.scrollIntoView();
  }

  function turn(by) {
    const place = current ? queries.indexOf(queryOf(current)) : -1;
    for (let number = place + by; number >= 0 && number < queries.length; number += by) {
      if (visible(queries[number]).length) return toQuery(number);
    }
  }

  function ends(by) {
    const there = visible(current ? queryOf(current) : document);
    go(there.at(by < 0 ? 0 : -1));
  }

  // An enlarged match, beside its query.

  function show(match) {
    seen = match;
    const link = spot(match);
    const small = one("img", link);
    const query = queryOf(match);
    const there = visible();
    const place = there.indexOf(match);
    one("h2", view).textContent = `Match ${one(".rank", match).textContent}`;
    copy(one(".owner", match), one(".owner", view));
    view.style.setProperty("--owner", getComputedStyle(match).getPropertyValue("--owner"));
    copy(one(".name", match), one(".name", view));
    one(".distance", view).textContent = one(".distance", match).textContent;
    one(".size", view).textContent = match.dataset.size || "unknown";
    for (const which of ["study", "series"]) { // only DICOM files have them
      const told = one(`.${which}`, view);
      told.textContent = match.dataset[which];
      told.hidden = told.previousElementSibling.hidden = !match.dataset[which];
    }
    one(".file", view).textContent = match.dataset.file;
    // A file that is not a picture gets no link: a browser might run it.
    if (match.dataset.link) one(".file", view).href = match.dataset.link;
    else one(".file", view).removeAttribute("href");
    one(".note", view).textContent = match.dataset.note || "";
    const asked = one(".asked img", query);
    one("figure img", view).hidden = !asked;
    if (asked) one("figure img", view).src = asked.src;
    const label = document.createElement("b");
    label.textContent = one(".label", query).textContent;
    const name = one(".asked .name", query).cloneNode(true);
    one("figcaption", view).replaceChildren(label, name);
    one(".previous", view).disabled = place <= 0;
    one(".next", view).disabled = place + 1 >= there.length;
    load(match, link, small);
    if (view.open) return;
    view.showModal();
    view.focus(); // rather than a button or scroller in it
  }

  function load(match, link, small) {
    const href = link.getAttribute("href");
    large.removeAttribute("style");
    large.alt = link.getAttribute("aria-label");
    if (!small || !href) {
      large.removeAttribute("src");
      large.hidden = true;
      one(".note", view).textContent = "This file cannot be shown as a picture.";
      return;
    }
    large.hidden = false;
    large.src = small.src; // until the large one has loaded
    const full = new Image();
    full.onload = () => {
      if (match !== current) return;
      large.src = full.src;
      // Small pictures are enlarged at most four times: beyond that they only blur.
      large.style.maxWidth = `${4 * full.naturalWidth}px`;
      large.style.maxHeight = `${4 * full.naturalHeight}px`;
    };
    full.onerror = () => {
      if (match !== current) return;
      one(".note", view).textContent = "The file cannot be shown. Is it still beside this page?";
    };
    full.src = href;
  }

  function zoom() {
    const actual = view.classList.toggle("actual");
    one(".zoom", view).setAttribute("aria-pressed", String(actual));
  }

  // Owners: show those chosen, or all if none is chosen.

  function filter() {
    for (const match of matches) match.hidden = chosen.size > 0 && !chosen.has(match.dataset.owner);
    for (const query of queries) {
      const none = one(".none-left", query);
      if (none) none.hidden = visible(query).length > 0;
    }
    const count = visible().length;
    one(".shown").textContent = chosen.size ? `${count} of ${matches.length} matches` : "";
    if (current && current.hidden) current = null;
    settle();
  }

  function choosable(chip) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = chip.className;
    button.setAttribute("aria-pressed", "false");
    button.append(...chip.childNodes);
    chip.replaceWith(button);
    button.addEventListener("click", () => {
      const owner = button.parentElement.dataset.owner;
      const pressed = !chosen.delete(owner);
      if (pressed) chosen.add(owner);
      button.setAttribute("aria-pressed", String(pressed));
      filter();
    });
  }

  // Keys and clicks.

  const keys = {
    ArrowRight: () => step(1),
    ArrowLeft: () => step(-1),
    ArrowDown: () => (view.open ? step(1) : climb(1)),
    ArrowUp: () => (view.open ? step(-1) : climb(-1)),
    Home: () => ends(-1),
    End: () => ends(1),
    n: () => turn(1),
    p: () => turn(-1),
    "?": () => help.showModal(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || help.open) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const onMatch = event.target.classList.contains("picture");
    const scrolls = ["ArrowDown", "ArrowUp", "Home", "End"].includes(key);
    if (scrolls && !onMatch && !view.open) return;
    if (view.open && view.classList.contains("actual") && key.startsWith("Arrow")) {
      // Arrows move a picture that is larger than the window.
      const stage = one(".stage");
      const across = { ArrowLeft: -1, ArrowRight: 1 }[key] || 0;
      const down = { ArrowUp: -1, ArrowDown: 1 }[key] || 0;
      stage.scrollBy({ left: across * 120, top: down * 120 });
    } else if (view.open && key === "z") zoom();
    else if (onMatch && (key === " " || key === "Enter")) event.target.click();
    else if (/^[1-9]$/.test(key)) toQuery(Number(key) - 1);
    else if (keys[key]) keys[key]();
    else return;
    event.preventDefault();
  });

  for (const match of matches) {
    const place = spot(match);
    place.addEventListener("focus", () => take(match));
    place.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // let the browser open the file in a new tab
      event.preventDefault();
      take(match);
      show(match);
    });
  }
  view.addEventListener("close", () => {
    if (view.classList.contains("actual")) zoom();
    large.removeAttribute("src");
    spot(seen).focus(); // the browser returned the focus to the match first opened
  });
  one(".stage").addEventListener("click", zoom);
  one(".zoom").addEventListener("click", zoom);
  one(".close").addEventListener("click", () => view.close());
  one(".previous").addEventListener("click", () => step(-1));
  one(".next").addEventListener("click", () => step(1));
  one(".help-button").addEventListener("click", () => help.showModal());
  one(".plain").addEventListener("click", () => help.close());
  one(".help-button").hidden = false;
  if (all(".owners > li").length > 1) for (const chip of all(".owners .chip")) choosable(chip);
  filter();
}
