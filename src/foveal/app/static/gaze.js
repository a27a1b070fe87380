// A page of foveal.page, in a frame as high as the page. A new one is shown once it has loaded, so
// that nothing flickers while one draws.
const holder = element.querySelector(".foveal-gaze");

function fit(frame) {
  frame.style.height = `${frame.contentDocument.body.offsetHeight}px`;
}

function show() {
  if (!props.value?.page) {
    holder.replaceChildren();
    return;
  }
  const frame = document.createElement("iframe");
  frame.title = "Where the model looks, step by step";
  frame.srcdoc = props.value.page;
  frame.className = "foveal-loading";
  frame.addEventListener("load", () => {
    if (!frame.isConnected) return;
    const content = frame.contentDocument;
    new ResizeObserver(() => fit(frame)).observe(content.body);
    frame.className = "";
    fit(frame);
    while (holder.firstChild !== frame) holder.firstChild.remove();
  });
  holder.append(frame);
}

watch("value", show);
show();
