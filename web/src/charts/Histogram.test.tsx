import { create } from "@bufbuild/protobuf";
import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";

import { HistogramSchema } from "../gen/featurescope/v1/features_pb.js";
import { linearTicks, logTicks, place, toBins, trimmed } from "./bins";
import { Histogram } from "./Histogram";

const histogram = create(HistogramSchema, {
  edges: [0.01, 0.1, 1, 10, 100],
  counts: [0n, 30n, 10n, 0n],
});

function render(asTable: boolean): HTMLElement {
  const host = document.createElement("div");
  host.innerHTML = renderToStaticMarkup(
    <Histogram
      histogram={histogram}
      counted="tokens"
      quantity="activation"
      axis="log"
      asTable={asTable}
      markers={[{ value: 1, label: "own text" }]}
    />,
  );
  return host;
}

describe("histogram", () => {
  it("shows as a table what it shows as bars", () => {
    const rows = [...render(true).querySelectorAll("tbody tr")].map((tr) =>
      [...tr.children].map((cell) => cell.textContent),
    );
    expect(rows).toEqual([
      ["0.100 – 1.00", "30", "75.0\u202f%"],
      ["1.00 – 10.0", "10", "25.0\u202f%"],
    ]);
    expect(render(false).querySelectorAll(".bin")).toHaveLength(2);
  });

  it("has column heads and row heads", () => {
    const host = render(true);
    expect([...host.querySelectorAll("th[scope=col]")].map((th) => th.textContent)).toEqual(["activation", "tokens", "share"]);
    expect(host.querySelectorAll("th[scope=row]")).toHaveLength(2);
  });

  it("names itself and every bar", () => {
    const host = render(false);
    expect(host.querySelector("svg > title")?.textContent).toContain("Histogram of activation");
    expect(host.querySelector(".bin title")?.textContent).toBe("0.100 to 1.00: 30 tokens (75.0\u202f%)");
  });

  it("places a marker by the scale of the axis", () => {
    const bins = trimmed(toBins(histogram));
    expect(place(bins, Math.sqrt(10), Math.log)).toBeCloseTo(0.75, 6);
    expect(place(bins, 1e9, Math.log)).toBe(1);
    expect(place(bins, 0, Math.log)).toBe(0);
    expect(place([], 1, Math.log)).toBeNull();
  });

  it("says so when there is nothing to count", () => {
    const empty = create(HistogramSchema, { edges: [1, 2], counts: [0n] });
    const html = renderToStaticMarkup(<Histogram histogram={empty} counted="tokens" quantity="activation" axis="log" asTable={false} />);
    expect(html).toContain("No positive values");
  });

  it("marks round values that do not crowd each other", () => {
    const bins = toBins(create(HistogramSchema, { edges: [0.03, 0.1, 0.3, 1, 3], counts: [1n, 1n, 1n, 1n] }));
    const ticks = logTicks(bins);
    expect(ticks.map((tick) => tick.value)).toContain(1);
    ticks.slice(1).forEach((tick, i) => expect(tick.at - (ticks[i]?.at ?? 0)).toBeGreaterThanOrEqual(0.139));
    expect(linearTicks(toBins(create(HistogramSchema, { edges: [-2.5, -1.5, -0.5], counts: [1n, 1n] }))).map((t) => t.value)).toEqual([-2, -1]);
  });
});
