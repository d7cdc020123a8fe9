// On paper: light colours also for a reader in the dark, and every folded solution open.
(() => {
  const root = document.documentElement;
  let theme, folded = [];
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((details) => { details.open = true; });
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = theme;
    folded.forEach((details) => { details.open = false; });
  });
})();
