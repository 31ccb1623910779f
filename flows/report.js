"use strict";
// Each comparison is an image over an image; its range input, which the keyboard moves, says where the upper one begins.
for (const compare of document.querySelectorAll(".compare")) {
  const range = compare.querySelector("input");
  if (!range) continue;

  const [left, right] = Array.from(compare.querySelectorAll(".side.left, .side.right"), (side) => side.textContent);
  const show = () => {
    compare.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % ${left}, ${100 - range.value} % ${right}`);
  };
  const follow = (event) => {
    const box = compare.getBoundingClientRect();
    range.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    show();
  };

  range.addEventListener("input", show);
  compare.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    compare.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true });
    follow(event);
  });
  compare.addEventListener("pointermove", (event) => {
    if (compare.hasPointerCapture(event.pointerId)) follow(event);
  });
  show();
}
