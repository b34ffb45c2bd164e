// Light, dark, or as the system says; remembered in the browser.
import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";

const key = "featurescope.theme";
const listeners = new Set<() => void>();
const system_dark = window.matchMedia("(prefers-color-scheme: dark)");

function stored(): Theme {
  const value = readSetting(key);
  return value === "light" || value === "dark" ? value : "system";
}

// Browsers may forbid storage; a setting is then forgotten, nothing worse.
export function readSetting(name: string): string | null {
  try {
    return window.localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function writeSetting(name: string, value: string): void {
  try {
    window.localStorage.setItem(name, value);
  } catch {
    // Forbidden or full: see readSetting.
  }
}

let theme: Theme = stored();

function apply(): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  for (const listener of listeners) listener();
}

export function startTheme(): void {
  system_dark.addEventListener("change", apply);
  apply();
}

export function setTheme(next: Theme): void {
  theme = next;
  writeSetting(key, next);
  apply();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useTheme(): Theme {
  return useSyncExternalStore(subscribe, () => theme);
}

// The theme that is seen; charts drawn on a canvas redraw when it changes.
export function useSeenTheme(): "light" | "dark" {
  return useSyncExternalStore(subscribe, () =>
    theme === "system" ? (system_dark.matches ? "dark" : "light") : theme,
  );
}
