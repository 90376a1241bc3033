"use strict";
(() => {
  const over = (count, whole) => whole ? count / whole : NaN;

  // One decimal, halves to the even digit: only .25 and .75 are halves that a double holds exactly.
  const decimal = x => {
    const down = Math.floor(x * 10);
    return (x * 4 % 2 === 1 ? (down % 2 ? down + 1 : down) / 10 : x).toFixed(1);
  };
  const text = (value, unit) => Number.isNaN(value) ? "undefined" : decimal(100 * value) + unit;

  const rates = (group, at) => {
    const tp = group.tp[at], fp = group.fp[at];
    return [over(tp, group.p), over(group.n - fp, group.n), over(tp, tp + fp), over(tp + fp, group.p + group.n)];
  };
  const explore = part => {
    const data = JSON.parse(part.querySelector("script").textContent);
    const slider = part.querySelector("input"), output = part.querySelector("output");
    const tables = part.querySelectorAll("table");
    const show = () => {
      const at = Number(slider.value);
      const shown = String(Number(data.thresholds[at].toPrecision(4)));
      output.textContent = shown;
      slider.setAttribute("aria-valuetext", "threshold " + shown);
      data.tables.forEach((groups, which) => {
        const rows = tables[which].tBodies[0].rows;
        const values = groups.map(group => rates(group, at));
        const compared = values.filter((_, place) => groups[place].gap);
        values.forEach((row, place) => row.forEach((value, column) => {
          rows[place].cells[column + 1].textContent = text(value, "\u00a0%");
        }));
        values[0].forEach((_, column) => {
          const of = compared.map(row => row[column]);
          const gap = of.length > 1 ? Math.max(...of) - Math.min(...of) : NaN;
          rows[groups.length].cells[column + 1].textContent = text(gap, "\u00a0points");
        });
      });
    };
    slider.addEventListener("input", show);
    part.querySelector(".slider").hidden = false;
    show();
  };
  document.querySelectorAll(".explorer").forEach(explore);
})();
