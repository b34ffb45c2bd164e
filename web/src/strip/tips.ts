// What the one tooltip of a page says of a token. Strips register their element; the tooltip looks the
// element up when the pointer or the focus reaches one of its tokens.

export interface TokenTip {
  title: string;
  note?: string;
  rows: readonly (readonly [string, string])[];
  // Alternatives with their share, e.g. the likeliest next tokens.
  bars?: readonly (readonly [string, number])[];
}

type Describe = (token: number) => TokenTip | null;

const strips = new WeakMap<Element, Describe>();

export function registerStrip(element: Element, describe: Describe): void {
  strips.set(element, describe);
}

// The token under an event target, if there is one.
export function findTip(target: EventTarget | null): { element: Element; tip: TokenTip } | null {
  if (!(target instanceof Element)) return null;
  const element = target.closest("[data-i]");
  const strip = element?.closest("[data-strip]");
  if (!element || !strip) return null;
  const tip = strips.get(strip)?.(Number(element.getAttribute("data-i")));
  return tip ? { element, tip } : null;
}
