// What can be scrolled can be reached by the keyboard.
addEventListener("load", () => setTimeout(() => {
  for (const part of document.querySelectorAll("pre code, .md-typeset__scrollwrap, math[display=block]")) {
    if (part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight) part.tabIndex = 0;
  }
}));
// The theme's search opens as a dialog, which it leaves without a name.
document.querySelector(".md-search[role=dialog]")?.setAttribute("aria-label", "Search");
