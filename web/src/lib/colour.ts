// The heat scale: 32 steps of one hue from the page's own surface to a strong orange, for each theme, with
// the ink that is readable on each step (contrast at least 4.5, WCAG 1.4.3).
//
// Interpolated in OKLab, so equal steps look equal. Steps are CSS variables (--heat-7, --heat-ink-7), set
// once; a token only names its step and follows the theme by itself.

export type Rgb = readonly [number, number, number];

export const heat_steps = 32;

interface Ramp {
  surface: Rgb;
  strongest: Rgb;
  inks: readonly [Rgb, Rgb];
}

const ramps: Record<"light" | "dark", Ramp> = {
  light: { surface: [255, 255, 255], strongest: [250, 143, 44], inks: [[23, 27, 36], [0, 0, 0]] },
  dark: { surface: [23, 26, 32], strongest: [247, 146, 50], inks: [[250, 251, 253], [6, 7, 9]] },
};

function toLinear(channel: number): number {
  const c = channel / 255;
  return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
}

function fromLinear(value: number): number {
  const c = value <= 0.0031308 ? 12.92 * value : 1.055 * Math.max(value, 0) ** (1 / 2.4) - 0.055;
  return Math.round(Math.min(1, Math.max(0, c)) * 255);
}

// WCAG relative luminance, 0 to 1.
export function luminance([r, g, b]: Rgb): number {
  return 0.2126 * toLinear(r) + 0.7152 * toLinear(g) + 0.0722 * toLinear(b);
}

// WCAG contrast ratio, 1 to 21.
export function contrast(a: Rgb, b: Rgb): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

type Lab = [number, number, number];

// Björn Ottosson, "A perceptual color space for image processing" (2020).
function toOklab(rgb: Rgb): Lab {
  const [r, g, b] = rgb.map(toLinear) as Lab;
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

function fromOklab([L, a, b]: Lab): Rgb {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    fromLinear(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    fromLinear(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    fromLinear(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ];
}

// Colour and ink of a step, 0 (the surface) to heat_steps - 1 (the strongest).
export function heatColour(theme: "light" | "dark", step: number): { fill: Rgb; ink: Rgb } {
  const { surface, strongest, inks } = ramps[theme];
  const from = toOklab(surface);
  const to = toOklab(strongest);
  const t = step / (heat_steps - 1);
  const fill = fromOklab(from.map((value, i) => value + t * ((to[i] ?? 0) - value)) as Lab);
  const ink = contrast(fill, inks[0]) >= contrast(fill, inks[1]) || theme === "light" ? inks[0] : inks[1];
  return { fill, ink };
}

// The step of an activation: 0 only for no activation at all, so that a weak one is still seen.
export function heatStep(activation: number, max: number): number {
  if (!(activation > 0) || !(max > 0)) return 0;
  const share = Math.min(1, activation / max);
  return Math.max(2, Math.round(share * (heat_steps - 1)));
}

function css([r, g, b]: Rgb): string {
  return `rgb(${r} ${g} ${b})`;
}

// Defines --heat-N and --heat-ink-N on `root` for both themes.
export function installHeatScale(root: HTMLElement): void {
  for (let step = 0; step < heat_steps; step++) {
    const light = heatColour("light", step);
    const dark = heatColour("dark", step);
    root.style.setProperty(`--heat-${step}`, `light-dark(${css(light.fill)}, ${css(dark.fill)})`);
    root.style.setProperty(`--heat-ink-${step}`, `light-dark(${css(light.ink)}, ${css(dark.ink)})`);
  }
}
