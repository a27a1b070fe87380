// The canvas that one draws on: strokes as lists of points [x, y] from 0 to 1. Each finished stroke
// is sent; what is drawn meanwhile is not waited for.
const canvas = element.querySelector("canvas"), pen = canvas.getContext("2d");
let strokes = [], stroke = null;

function redraw() {
  pen.fillStyle = "black";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = pen.fillStyle = "white";
  pen.lineWidth = canvas.width / 28;
  pen.lineCap = pen.lineJoin = "round";
  for (const points of strokes) {
    pen.beginPath();
    for (const [x, y] of points) pen.lineTo(x * canvas.width, y * canvas.height);
    if (points.length === 1) pen.lineTo(points[0][0] * canvas.width, points[0][1] * canvas.height);
    pen.stroke();
  }
}

function add(event) {
  const area = canvas.getBoundingClientRect();
  const places = [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
  stroke.push(places.map((at) => Math.round(1000 * Math.min(Math.max(at, 0), 1)) / 1000));
}

function send() {
  props.value = strokes.map((points) => points.slice());
  trigger("input");
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button || stroke) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  strokes.push(stroke = []);
  add(event);
  redraw();
});
canvas.addEventListener("pointermove", (event) => {
  if (!stroke) return;
  const parts = event.getCoalescedEvents?.() ?? [];
  (parts.length ? parts : [event]).forEach(add);
  redraw();
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, () => {
    if (!stroke) return;
    stroke = null;
    send();
  });
}
element.querySelector("[data-do=undo]").addEventListener("click", () => {
  strokes.pop();
  redraw();
  send();
});
element.querySelector("[data-do=clear]").addEventListener("click", () => {
  strokes = [];
  redraw();
  send();
});
redraw();
