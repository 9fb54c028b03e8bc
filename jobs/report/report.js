"use strict";
(() => {
  const each = (selector, action) => document.querySelectorAll(selector).forEach(action);

  // The slider over the sample grids. Without this script the page shows the last grid and the first.
  each("[data-frames]", (viewer) => {
    const frames = [...viewer.querySelectorAll(".frame")];
    const slider = viewer.querySelector("input");
    const play = viewer.querySelector("button");
    const caption = viewer.querySelector("output");
    let timer = null;

    const show = (index) => {
      slider.value = index;
      frames.forEach((frame, place) => frame.classList.toggle("current", place === index));
      caption.textContent = frames[index].dataset.caption;
      slider.setAttribute("aria-valuetext", frames[index].dataset.caption);
    };
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶";
      play.setAttribute("aria-label", "Play");
    };
    const start = () => {
      if (Number(slider.value) === frames.length - 1) show(0);
      play.textContent = "❚❚";
      play.setAttribute("aria-label", "Pause");
      timer = setInterval(() => {
        const next = Number(slider.value) + 1;
        show(Math.min(next, frames.length - 1));
        if (next >= frames.length - 1) stop();
      }, 350);
    };
    const step = (by) => {
      stop();
      show(Math.min(Math.max(Number(slider.value) + by, 0), frames.length - 1));
    };

    slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
    play.addEventListener("click", () => (timer === null ? start() : stop()));
    viewer.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1 };
      if (event.key in steps) {
        step(steps[event.key]);
        event.preventDefault();
      }
    });
    viewer.classList.add("live");
    show(frames.length - 1);
  });

  // The values under the pointer.
  each("svg[data-chart]", (svg) => {
    const data = JSON.parse(svg.dataset.chart);
    const [low, high, left, right] = data.x;
    const cursor = svg.querySelector(".cursor");
    const tip = svg.parentElement.querySelector(".tip");

    const nearest = (points, x) =>
      points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));

    const leave = () => {
      tip.hidden = true;
      cursor.setAttribute("visibility", "hidden");
    };
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const pixel = ((event.clientX - box.left) / box.width) * data.width;
      const x = low + ((pixel - left) / (right - left)) * (high - low);
      const found = data.series
        .filter((line) => line.points.length)
        .map((line) => ({ name: line.name, point: nearest(line.points, x) }));
      if (!found.length) return;
      const at = found[0].point[0];
      const place = left + ((at - low) / (high - low)) * (right - left);
      cursor.setAttribute("x1", place);
      cursor.setAttribute("x2", place);
      cursor.setAttribute("visibility", "visible");
      tip.replaceChildren(
        ...[`${at.toLocaleString("en")} images`, ...found.map(({ name, point }) => `${name} ${point[1]}`)].map((text) => {
          const row = document.createElement("div");
          row.textContent = text;
          return row;
        }),
      );
      tip.hidden = false;
      const share = place / data.width;
      tip.style.left = `${share * 100}%`;
      tip.style.transform = share > 0.6 ? "translateX(calc(-100% - 10px))" : "translateX(10px)";
    });
  });

  // Paper shows everything.
  addEventListener("beforeprint", () => each("details", (part) => { part.open = true; }));
})();
