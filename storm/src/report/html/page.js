"use strict";
// One cross hair over all plots: the values of a moment stand in every legend. (No "less than" here: the page is XML too.)
{
  const figures = [...document.querySelectorAll("figure")].map((figure) => {
    const svg = figure.querySelector("svg");
    return {
      svg,
      hair: svg.querySelector(".hair"),
      when: figure.querySelector(".when"),
      legend: [...figure.querySelectorAll(".legend em")],
      values: [...svg.querySelectorAll("path")].map((path) => path.dataset.v.split(",")),
      left: +svg.dataset.left,
      right: +svg.dataset.right,
      last: +svg.dataset.last,
    };
  });
  const times = (document.querySelector(".plots") || { dataset: {} }).dataset.times;
  const moments = times ? times.split(",").map(Number) : [];
  const nearest = (s) =>
    moments.reduce((best, at, index) => (Math.abs(moments[best] - s) > Math.abs(at - s) ? index : best), 0);
  const show = (index) => {
    for (const f of figures) {
      const x = f.left + ((f.right - f.left) * moments[index]) / f.last;
      f.hair.setAttribute("x1", x);
      f.hair.setAttribute("x2", x);
      f.hair.style.visibility = "visible";
      f.when.textContent = "at " + moments[index].toFixed(1) + " s";
      f.legend.forEach((em, line) => (em.textContent = f.values[line][index] || "–"));
    }
  };
  const hide = () => {
    for (const f of figures) {
      f.hair.style.visibility = "hidden";
      f.when.textContent = "";
      f.legend.forEach((em) => (em.textContent = em.dataset.most));
    }
  };
  for (const f of figures) {
    f.svg.addEventListener("mousemove", (event) => {
      const box = f.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * f.svg.viewBox.baseVal.width;
      if (moments.length) show(nearest(((x - f.left) / (f.right - f.left)) * f.last));
    });
    f.svg.addEventListener("mouseleave", hide);
  }
}
