"use strict";
// Numbers: one stop of the Tab key for each group, arrow keys inside it, and the origin beside the number.
const tip = document.getElementById("tip");
const groups = new Map();
for (const number of document.querySelectorAll("a.n")) {
  const group = number.closest("tbody, dl, ul, figure, p") || document.body;
  if (!groups.has(group)) groups.set(group, []);
  else number.tabIndex = -1;
  groups.get(group).push(number);
}

function show(number) {
  tip.textContent = document.getElementById(number.hash.slice(1)).textContent;
  tip.hidden = false;
  const at = number.getClientRects()[0] || number.getBoundingClientRect();
  const below = at.bottom + tip.offsetHeight + 10 < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - tip.offsetHeight - 6)}px`;
}

let hiding = 0;
function hide() { tip.hidden = true; }
function shown(event) { return event.target.closest && event.target.closest("a.n"); }
document.addEventListener("pointerover", (event) => {
  clearTimeout(hiding);
  if (shown(event)) show(shown(event));
  else if (!tip.contains(event.target)) hiding = setTimeout(hide, 200);   // so that one can reach the origin and copy it
});
document.addEventListener("focusin", (event) => { if (shown(event)) show(shown(event)); else hide(); });
document.addEventListener("scroll", hide, { passive: true });

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return hide();
  const number = shown(event);
  if (!number || event.altKey || event.ctrlKey || event.metaKey) return;
  const group = [...groups.values()].find((one) => one.includes(number));
  const to = next(number, group, event.key);
  if (!to) return;
  event.preventDefault();
  number.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
});

// In a table up and down keep to the column.
function next(number, group, key) {
  const place = group.indexOf(number), cell = number.closest("td, th");
  if (key === "Home") return group[0];
  if (key === "End") return group[group.length - 1];
  if (key === "ArrowRight") return group[place + 1];
  if (key === "ArrowLeft") return group[place - 1];
  const step = { ArrowDown: 1, ArrowUp: -1 }[key];
  if (!step) return undefined;
  if (!cell) return group[place + step];
  for (let row = cell.parentNode; (row = step > 0 ? row.nextElementSibling : row.previousElementSibling);) {
    const found = row.children[cell.cellIndex] && row.children[cell.cellIndex].querySelector("a.n");
    if (found) return found;
  }
  return undefined;
}

// From an origin back to the number that led there.
document.addEventListener("click", (event) => {
  const number = shown(event);
  if (!number) return;
  hide();
  const origin = document.getElementById(number.hash.slice(1));
  for (const old of document.querySelectorAll("#origins button")) old.remove();
  const back = document.createElement("button");
  back.type = "button";
  back.textContent = `back to ${number.textContent.slice(0, 40)}`;
  back.addEventListener("click", () => { back.remove(); number.scrollIntoView({ block: "center" }); number.focus(); });
  origin.append(" ", back);
});

// On paper all is open.
const closed = [...document.querySelectorAll("details:not([open])")];
addEventListener("beforeprint", () => { for (const one of closed) one.open = true; });
addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
