import { act } from "react";
import { createRoot } from "react-dom/client";
import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";

import { makeExample, makeToken } from "../testing";
import { HeatStrip } from "./HeatStrip";
import { rove, sliceExample, strongestIndex, tokenLabel } from "./strip";
import { findTip } from "./tips";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

const tokens = [makeToken("The"), makeToken(" king"), makeToken("\n"), makeToken(" <b>")];
const acts = [0, 4, 0, 1];

function render(props: Partial<Parameters<typeof HeatStrip>[0]> = {}): HTMLElement {
  const host = document.createElement("div");
  host.innerHTML = renderToStaticMarkup(<HeatStrip tokens={tokens} acts={acts} max={4} label="Example" {...props} />);
  return host;
}

describe("heat strip", () => {
  it("colours active tokens by their share of the maximum, and no others", () => {
    const steps = [...render().querySelectorAll("[data-i]")].map((el) => Number(el.getAttribute("data-step")));
    expect(steps[0]).toBe(0);
    expect(steps[1]).toBe(31);
    expect(steps[2]).toBe(0);
    expect(steps[3]).toBe(8);
  });

  it("boxes exactly the strongest token, so that colour is not the only sign", () => {
    const marked = [...render().querySelectorAll(".mark")];
    expect(marked.map((el) => el.textContent)).toEqual([" king"]);
  });

  it("shows token text as text, whatever is in it", () => {
    const host = render();
    expect(host.querySelector("b")).toBeNull();
    expect(host.textContent).toContain(" <b>");
  });

  it("breaks lines only when asked to", () => {
    expect(render().querySelectorAll("br")).toHaveLength(0);
    expect(render({ breaks: true }).querySelectorAll("br")).toHaveLength(1);
  });

  it("writes the values below active tokens when asked to", () => {
    const values = [...render({ values: true }).querySelectorAll("small")].map((el) => el.textContent);
    expect(values).toEqual(["\u00a0", "4.00", "\u00a0", "1.00"]);
  });

  it("has one tab stop, which tells its activation", () => {
    const stops = [...render({ first: 10 }).querySelectorAll("[tabindex='0']")];
    expect(stops).toHaveLength(1);
    expect(stops[0]?.getAttribute("aria-label")).toBe("token “ king”, activation 4.00, position 11");
  });

  it("moves the focus with the arrow keys and tells the tooltip which token it is", async () => {
    const host = document.body.appendChild(document.createElement("div"));
    const root = createRoot(host);
    await act(async () => root.render(<HeatStrip tokens={tokens} acts={acts} max={4} label="Example" />));
    const start = host.querySelector<HTMLElement>("[data-i='1']");
    start?.focus();
    await act(async () => {
      start?.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    });
    expect(document.activeElement?.getAttribute("data-i")).toBe("2");
    expect(findTip(document.activeElement)?.tip.rows).toContainEqual(["activation", "0"]);
    expect(findTip(host)).toBeNull();
    await act(async () => root.unmount());
  });
});

describe("strip helpers", () => {
  it("cuts the context around the strongest token and keeps positions", () => {
    const words = Array.from({ length: 41 }, (_, i) => ` w${i}`);
    const example = makeExample(words, words.map((_, i) => (i === 20 ? 2 : 0)), { position: 120, start: 100 });
    const short = sliceExample(example, "short");
    expect(short.tokens).toHaveLength(17);
    expect(short.tokens[short.mark]?.display).toBe(" w20");
    expect(short.first).toBe(112);
    expect(sliceExample(example, "full").tokens).toHaveLength(41);
  });

  it("survives a position outside the window and an empty example", () => {
    expect(sliceExample(makeExample([" a"], [1], { position: 99 }), "short").mark).toBe(0);
    expect(sliceExample(makeExample([], [], { position: 0 }), "full").mark).toBe(-1);
  });

  it("finds the strongest token, or none", () => {
    expect(strongestIndex([0, 1, 3, 3])).toBe(2);
    expect(strongestIndex([0, 0])).toBe(-1);
  });

  it("stays inside the strip", () => {
    expect(rove("ArrowLeft", 0, 4)).toBe(0);
    expect(rove("ArrowRight", 3, 4)).toBe(3);
    expect(rove("End", 0, 4)).toBe(3);
    expect(rove("a", 0, 4)).toBeNull();
  });

  it("says that a token is not active", () => {
    expect(tokenLabel(makeToken("x"), 0, 5)).toBe("token “x”, not active, position 5");
  });
});
