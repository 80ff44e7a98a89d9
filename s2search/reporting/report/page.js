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
  tip.textContent = document.getElementById(number.getAttribute("aria-describedby")).textContent;
  tip.hidden = false;
  const at = number.getClientRects()[0] || number.getBoundingClientRect();
  const below = at.bottom + tip.offsetHeight + 10 < innerHeight;
  tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - tip.offsetHeight - 6)}px`;
}

let hiding = 0;
function hide() { tip.hidden = true; }
function told(event) { return event.target.closest && event.target.closest("a[aria-describedby]"); }
function shown(event) { return event.target.closest && event.target.closest("a.n"); }
document.addEventListener("pointerover", (event) => {
  clearTimeout(hiding);
  if (told(event)) show(told(event));
  else if (!tip.contains(event.target)) hiding = setTimeout(hide, 200);   // so that one can reach the origin and copy it
});
document.addEventListener("focusin", (event) => { if (told(event)) show(told(event)); else hide(); });
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

// A matrix: the chosen cell's design alone is shown; arrow keys move among the cells.
for (const matrix of document.querySelectorAll(".matrix")) {
  const cells = [...matrix.querySelectorAll("td > a")];
  const design = (cell) => document.getElementById(cell.hash.slice(1));
  const choose = (cell) => {
    for (const one of cells) {
      design(one).hidden = true;
      one.removeAttribute("aria-current");
      one.tabIndex = -1;
    }
    design(cell).hidden = false;
    cell.setAttribute("aria-current", "true");
    cell.tabIndex = 0;
  };
  for (const cell of cells) {
    cell.addEventListener("click", (event) => { event.preventDefault(); choose(cell); cell.focus(); });
    cell.addEventListener("keydown", (event) => {
      const box = cell.parentNode, row = box.parentNode;
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      let [y, x] = [row.sectionRowIndex, box.cellIndex];
      for (;;) {
        y += step[0];
        x += step[1];
        const next = row.parentNode.rows[y] && row.parentNode.rows[y].cells[x];
        if (!next || next.tagName === "TH") return;
        const found = next.querySelector("a");
        if (!found) continue;
        choose(found);
        found.focus();
        return;
      }
    });
  }
  const first = cells.find((cell) => cell.parentNode.classList.contains("answer")) || cells[0];
  if (first) choose(first);
}
