"use strict";
// The read-out of the curve: the window nearest to the pointer, in the panel below. Without this the panel shows the newest.
for (const figure of document.querySelectorAll("[data-readout]")) {
  const windows = JSON.parse(figure.dataset.readout);
  const texts = figure.querySelectorAll(".readout b");
  const show = (place) => windows[place].forEach((text, index) => { texts[index].textContent = text; });
  for (const chart of figure.querySelectorAll("svg[data-at]")) {
    const at = chart.dataset.at.split(" ").map(Number);
    const cursor = chart.querySelector(".cursor");
    const move = (event) => {
      const box = chart.getBoundingClientRect();
      const x = (event.clientX - box.left) * chart.viewBox.baseVal.width / box.width;
      const nearest = at.reduce((best, each, place) => Math.abs(each - x) < Math.abs(at[best] - x) ? place : best, 0);
      cursor.setAttribute("x1", at[nearest]);
      cursor.setAttribute("x2", at[nearest]);
      cursor.classList.add("on");
      show(nearest);
    };
    chart.addEventListener("pointermove", move);
    chart.addEventListener("pointerdown", move);
    chart.addEventListener("pointerleave", () => { cursor.classList.remove("on"); show(windows.length - 1); });
  }
}
