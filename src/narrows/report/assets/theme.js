// Theme: the system's, or the one asked for; kept for this page where the browser allows.
const THEMES = ["system", "light", "dark"];
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
let theme = "system";
function setTheme(name) {
  theme = name;
  document.documentElement.dataset.theme = name === "dark" || (name === "system" && systemDark.matches) ? "dark" : "light";
  byId("theme").textContent = `Theme: ${name}`;
}

function startTheme(redraw) {
  setTheme("system");
  byId("theme").addEventListener("click", () => { setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]); redraw(); });
  systemDark.addEventListener("change", () => { if (theme === "system") { setTheme(theme); redraw(); } });
}

// Figures change their build where the page becomes narrow or wide.
function onWidthChange(redraw) {
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if ((width < 700) !== isNarrow() || (width < 860) !== (window.innerWidth < 860)) redraw();
    width = window.innerWidth;
  });
}
