// Shows a game of Catch and collects a person's moves. The server has dealt it, and judges the
// moves by the rules; what is computed here is only what is shown.
const SCALE_COLORS = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#D55E00"];
const LEFT = 0, STAY = 1, RIGHT = 2, SIDE = 336;
const find = (selector) => element.querySelector(selector);
const screens = { you: find("[data-who=you] canvas"), agent: find("[data-who=agent] canvas") };
const seen = find(".foveal-seen div"), state = find(".foveal-state");
const pause = find("[data-do=pause]"), speed = find("input[type=range]");
let game = null, time = 0, paddle = 0, moves = [], timer = 0, held = new Set(), tapped = null;

function drawScreen(canvas, column, look) {
  const pen = canvas.getContext("2d"), pixel = SIDE / game.size;
  canvas.width = canvas.height = SIDE;
  pen.fillStyle = "black";
  pen.fillRect(0, 0, SIDE, SIDE);
  pen.fillStyle = "white";
  const [x, y] = game.balls[time];
  pen.fillRect(x * pixel, y * pixel, pixel, pixel);
  pen.fillRect(column * pixel, (game.size - 1) * pixel, game.paddleWidth * pixel, pixel);
  if (look === undefined) return;
  game.patchSizes.forEach((size, scale) => {
    if (!game.corners[look][scale]) return;
    const [left, top] = game.corners[look][scale];
    pen.strokeStyle = SCALE_COLORS[scale % SCALE_COLORS.length];
    pen.lineWidth = 3;
    pen.strokeRect(left * pixel, top * pixel, size * pixel, size * pixel);
  });
}

function drawGlimpses(look) {
  seen.replaceChildren();
  game.glimpses[look].forEach((rows, scale) => {
    if (!rows) return;
    const canvas = document.createElement("canvas"), side = rows.length;
    canvas.width = canvas.height = side;
    canvas.style.borderColor = SCALE_COLORS[scale % SCALE_COLORS.length];
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${game.patchSizes[scale]} pixels wide`);
    const bytes = rows.flat().flatMap((light) => [light, light, light, 255]);
    canvas.getContext("2d").putImageData(new ImageData(Uint8ClampedArray.from(bytes), side), 0, 0);
    seen.append(canvas);
  });
}

function draw() {
  const looks = game.corners.length, look = Math.min(time, looks - 1);
  if (game.against) drawScreen(screens.you, paddle);
  drawScreen(screens.agent, game.paddles[time], time < looks ? look : undefined);
  drawGlimpses(look);
  const over = time === looks;
  const end = game.caught ? "The agent caught it." : "The agent missed it.";
  state.textContent = over ? `Over. ${end}` : `Move ${time + 1} of ${looks}`;
  element.dataset.time = time;
  element.dataset.over = over;
}

function tick() {
  if (game.against) {
    const wish = [...held].pop() ?? tapped ?? STAY;
    tapped = null;
    moves.push(wish);
    paddle = Math.min(Math.max(paddle + wish - 1, 0), game.size - game.paddleWidth);
  }
  time += 1;
  draw();
  if (time < game.corners.length) return;
  run(false);
  pause.disabled = true;
  enable(false);
  if (!game.against) return;
  props.value = { id: game.id, moves };
  trigger("submit");
}

function run(on) {
  clearInterval(timer);
  timer = on ? setInterval(tick, 1000 / Number(speed.value)) : 0;
  pause.textContent = on ? "Pause" : "Go on";
}

function enable(on) {
  element.querySelectorAll("[data-move]").forEach((button) => { button.disabled = !on; });
  held.clear();
}

function start() {
  if (!props.value?.balls) return;  // moves on their way to the server
  game = props.value;
  [time, paddle, moves, tapped] = [0, game.paddles[0], [], null];
  find("[data-who=you]").hidden = !game.against;
  find(".foveal-board").classList.toggle("foveal-watched", !game.against);
  enable(game.against);
  pause.disabled = false;
  draw();
  run(true);
}

function hold(move, on) {
  if (!timer || !game.against) return;
  if (on) {
    held.add(move);
    tapped = move;
  } else held.delete(move);
}

element.querySelectorAll("[data-move]").forEach((button) => {
  const move = Number(button.dataset.move);
  button.addEventListener("pointerdown", () => hold(move, true));
  for (const end of ["pointerup", "pointerleave", "pointercancel"]) {
    button.addEventListener(end, () => hold(move, false));
  }
  // A press of Enter or the space bar is a click without a pointer: one move.
  button.addEventListener("click", (event) => { if (!event.detail && timer) tapped = move; });
});
pause.addEventListener("click", () => run(!timer));
speed.addEventListener("input", () => { if (timer) run(true); });

function key(event) {
  if (!game || !element.offsetParent || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.matches?.("input, select, textarea")) return;
  const move = { ArrowLeft: LEFT, ArrowRight: RIGHT }[event.key];
  if (move !== undefined && game.against) {
    event.preventDefault();
    hold(move, event.type === "keydown");
  } else if (event.key === "p" && event.type === "keydown" && !pause.disabled) run(!timer);
}
document.addEventListener("keydown", key);
document.addEventListener("keyup", key);
window.addEventListener("blur", () => held.clear());
watch("value", start);
