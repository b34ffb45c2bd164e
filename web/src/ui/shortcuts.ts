// Single-key shortcuts. A view registers what a key does while it is shown; the latest wins.
//
// They are off while typing, with modifier keys, inside open dialogs, and can be switched off altogether
// (WCAG 2.1.4).
import { useEffect, useRef, useSyncExternalStore } from "react";

import { readSetting, writeSetting } from "./theme";

type Handler = () => void;

const setting = "featurescope.shortcuts";
const handlers = new Map<string, Handler[]>();
const listeners = new Set<() => void>();
let enabled = readSetting(setting) !== "off";

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable) return true;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "range", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

function onKeyDown(event: KeyboardEvent): void {
  if (!enabled || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target) || document.querySelector("dialog[open]") !== null) return;
  const handler = handlers.get(event.key)?.at(-1);
  if (handler === undefined) return;
  event.preventDefault();
  handler();
}

export function startShortcuts(): void {
  window.addEventListener("keydown", onKeyDown);
}

export function useShortcut(key: string, handler: Handler | undefined): void {
  const latest = useRef(handler);
  latest.current = handler;
  const active = handler !== undefined;
  useEffect(() => {
    if (!active) return;
    const call = () => latest.current?.();
    handlers.set(key, [...(handlers.get(key) ?? []), call]);
    return () => {
      handlers.set(key, (handlers.get(key) ?? []).filter((other) => other !== call));
    };
  }, [key, active]);
}

export function setShortcutsEnabled(on: boolean): void {
  enabled = on;
  writeSetting(setting, on ? "on" : "off");
  for (const listener of listeners) listener();
}

export function useShortcutsEnabled(): boolean {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => enabled,
  );
}

export const shortcut_help: readonly [string, string][] = [
  ["j", "next alive feature, or next row of a table"],
  ["k", "previous alive feature, or previous row"],
  ["g", "go to a feature by its number"],
  ["r", "a random alive feature"],
  ["t", "to the box for own text"],
  ["s", "to the steering panel"],
  ["/", "search by token"],
  ["?", "this help"],
  ["Esc", "close a dialog, leave a box"],
];
