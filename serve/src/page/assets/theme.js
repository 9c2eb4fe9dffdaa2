// Light or dark, before the first paint: the reader's choice where there is one, else the system's.
"use strict";
(() => {
  const root = document.documentElement;
  const stored = () => { try { return localStorage.getItem("nearcast-theme"); } catch { return null; } };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = () => { root.dataset.theme = stored() || (system.matches ? "dark" : "light"); };
  show();
  system.addEventListener("change", show);
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => button.setAttribute("aria-label", root.dataset.theme === "dark" ? "Use light colours" : "Use dark colours");
    label();
    system.addEventListener("change", label);
    button.addEventListener("click", () => {
      const next = root.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("nearcast-theme", next); } catch { /* kept for this visit only */ }
      root.dataset.theme = next;
      label();
    });
  });
})();
