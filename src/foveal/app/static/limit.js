// What was said of an upload; and a file that is too large is refused here, before it is sent.
function refuse(event, files) {
  const large = [...files].find((file) => file.size > props.max_upload);
  if (!large) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const said = document.createElement("p"), megabytes = (bytes) => Math.ceil(bytes / 1e5) / 10;
  said.className = "foveal-message";
  said.setAttribute("role", "alert");
  said.textContent = `${large.name} has ${megabytes(large.size)} MB; at most ` +
    `${megabytes(props.max_upload)} MB are taken. Scale it down, or start foveal app with a larger --max-upload.`;
  props.value = said.outerHTML;
}
const inside = (event) => event.target.closest?.("#picture-file");
document.addEventListener("change", (event) => {
  if (!inside(event) || !event.target.files) return;
  refuse(event, event.target.files);
  if (event.defaultPrevented) event.target.value = "";
}, true);
document.addEventListener("drop", (event) => {
  if (inside(event)) refuse(event, event.dataTransfer.files);
}, true);
