import { act, useState } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { useDraft } from "./useDraft";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

const written: string[] = [];
let shown = "";
let type: (text: string) => void;
let flush: () => void;
let setFromOutside: (text: string) => void;
let root: Root;

function Probe() {
  const [value, setValue] = useState("a");
  const [draft, change, flushNow] = useDraft(
    value,
    (text) => {
      written.push(text);
      setValue(text);
    },
    300,
  );
  shown = draft;
  type = change;
  flush = flushNow;
  setFromOutside = setValue;
  return null;
}

beforeEach(async () => {
  vi.useFakeTimers();
  written.length = 0;
  root = createRoot(document.createElement("div"));
  await act(async () => root.render(<Probe />));
});

afterEach(async () => {
  await act(async () => root.unmount());
  vi.useRealTimers();
});

const wait = (ms: number) => act(async () => void (await vi.advanceTimersByTimeAsync(ms)));

describe("draft", () => {
  it("shows typing at once and writes it when the typing pauses", async () => {
    await act(async () => type("ab"));
    await wait(200);
    await act(async () => type("abc"));
    expect(shown).toBe("abc");
    expect(written).toEqual([]);
    await wait(300);
    expect(written).toEqual(["abc"]);
  });

  it("is written at once by a flush, and only once", async () => {
    await act(async () => type("ab"));
    await act(async () => flush());
    await wait(1000);
    expect(written).toEqual(["ab"]);
  });

  it("writes nothing by a flush when nothing was typed", async () => {
    await act(async () => flush());
    expect(written).toEqual([]);
  });

  it("gives way to a change from outside, such as the back button", async () => {
    await act(async () => type("ab"));
    await act(async () => setFromOutside("z"));
    await wait(1000);
    expect(shown).toBe("z");
    expect(written).toEqual([]);
  });
});
