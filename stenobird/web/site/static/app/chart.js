// A bar chart of minutes by day.

const HEIGHT = 220, LEFT = 44, BOTTOM = 26, TOP = 12, LABEL_PX = 64;

const svg = (tag, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

// The axis steps: 1, 2 or 5 times a power of ten, at most four steps.
export function steps(most) {
  let step = 1;
  for (let n = 0; most / step > 4; n += 1) step = [1, 2, 5][n % 3] * 10 ** Math.floor(n / 3);
  return { step, ceiling: Math.max(step * Math.ceil(most / step), 4 * step) };
}

// Returns the chart of `days`, [{ day: "2026-01-31", minutes }], `width` pixels wide.
export function chartOf(days, width) {
  const busiest = Math.max(0, ...days.map((day) => day.minutes));
  const total = days.reduce((sum, day) => sum + day.minutes, 0);
  const { step, ceiling } = steps(busiest);
  const y = (minutes) => TOP + (HEIGHT - BOTTOM - TOP) * (1 - minutes / ceiling);
  const slot = (width - LEFT) / days.length;
  const named = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", timeZone: "UTC" });
  const chart = svg("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
    "aria-label": `${total.toLocaleString("en")} minutes in ${days.length} days; the busiest day had ${busiest.toLocaleString("en")}.`,
  });
  for (let minutes = 0; minutes <= ceiling; minutes += step) {
    chart.append(svg("line", { class: "axis", x1: LEFT, x2: width, y1: y(minutes), y2: y(minutes) }),
      svg("text", { x: LEFT - 10, y: y(minutes) + 4, "text-anchor": "end" }, minutes.toLocaleString("en")));
  }
  const every = Math.max(7, Math.ceil(LABEL_PX / slot / 7) * 7);
  days.forEach(({ day, minutes }, index) => {
    const x = LEFT + index * slot, last = index === days.length - 1, name = named.format(new Date(`${day}T00:00Z`));
    if (minutes) {
      const bar = svg("rect", { class: "bar", x: x + slot * .15, width: slot * .7, y: y(minutes), height: y(0) - y(minutes) });
      bar.append(svg("title", {}, `${name}: ${minutes.toLocaleString("en")} min`));
      chart.append(bar);
    }
    if ((days.length - 1 - index) % every === 0) {
      chart.append(svg("text", { x: last ? width : x + slot / 2, y: HEIGHT - 6, "text-anchor": last ? "end" : "middle" }, name));
    }
  });
  return chart;
}
