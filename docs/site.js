// What can be scrolled can be reached by the keyboard.
addEventListener("load", () => setTimeout(() => {
  for (const part of document.querySelectorAll("pre code, .md-typeset__scrollwrap, math[display=block]")) {
    if (part.scrollWidth > part.clientWidth || part.scrollHeight > part.clientHeight) part.tabIndex = 0;
  }
}));
