import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { WatchJobsResponseSchema, type WatchJobsResponse } from "../gen/featurescope/v1/jobs_pb.js";

// A stream that a test feeds by hand; it ends like a real one when its signal is aborted.
class HandStream {
  private wake: (() => void) | null = null;
  private readonly queue: (WatchJobsResponse | Error | null)[] = [];
  constructor(readonly signal: AbortSignal) {
    signal.addEventListener("abort", () => this.put(new Error("aborted")));
  }
  put(item: WatchJobsResponse | Error | null): void {
    this.queue.push(item);
    this.wake?.();
  }
  async *[Symbol.asyncIterator](): AsyncGenerator<WatchJobsResponse> {
    for (;;) {
      const item = this.queue.shift();
      if (item === null) return;
      if (item instanceof Error) throw item;
      if (item !== undefined) yield item;
      else await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }
}

const streams: HandStream[] = [];
vi.mock("../api/client", () => ({
  jobs: {
    watchJobs: (_: unknown, { signal }: { signal: AbortSignal }) => {
      const stream = new HandStream(signal);
      streams.push(stream);
      return stream;
    },
  },
}));

const { snapshot, subscribe } = await import("./watch");
const tick = create(WatchJobsResponseSchema, { event: { case: "tick", value: {} } });
const open = () => streams.filter((stream) => !stream.signal.aborted).length;
const unsubscribes: (() => void)[] = [];
const watch = () => unsubscribes.push(subscribe(() => {}));
const settle = () => vi.advanceTimersByTimeAsync(0);

function setVisibility(value: "hidden" | "visible"): void {
  Object.defineProperty(document, "visibilityState", { value, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}

beforeEach(() => {
  vi.useFakeTimers();
  streams.length = 0;
  setVisibility("visible");
});

afterEach(async () => {
  for (const unsubscribe of unsubscribes.splice(0)) unsubscribe();
  await vi.advanceTimersByTimeAsync(1000);
  vi.useRealTimers();
});

describe("the tab's WatchJobs stream", () => {
  it("is one for any number of views, and ends after the last", async () => {
    watch();
    watch();
    await settle();
    expect(streams).toHaveLength(1);
    for (const unsubscribe of unsubscribes.splice(0)) unsubscribe();
    await vi.advanceTimersByTimeAsync(1000);
    expect(open()).toBe(0);
    expect(snapshot().connection).toBe("closed");
  });

  it("outlives the change from one view to the next", async () => {
    watch();
    await settle();
    unsubscribes.splice(0)[0]?.();
    watch();
    await vi.advanceTimersByTimeAsync(1000);
    expect(streams).toHaveLength(1);
    expect(open()).toBe(1);
  });

  it("is given up while the tab is hidden", async () => {
    watch();
    await settle();
    setVisibility("hidden");
    await settle();
    expect(open()).toBe(0);
    setVisibility("visible");
    await settle();
    expect(open()).toBe(1);
    expect(streams).toHaveLength(2);
  });

  it("is opened again after a pause when it breaks, and says why it broke", async () => {
    watch();
    await settle();
    streams[0]?.put(tick);
    await settle();
    expect(snapshot().connection).toBe("live");
    streams[0]?.put(new Error("reset"));
    await settle();
    expect(snapshot()).toMatchObject({ connection: "waiting", error: { message: "reset" } });
    await vi.advanceTimersByTimeAsync(700);
    expect(streams).toHaveLength(2);
  });

  it("waits longer and longer while nothing answers", async () => {
    watch();
    for (let i = 0; i < 200; i++) {
      await settle();
      streams.at(-1)?.put(new Error("down"));
      await vi.advanceTimersByTimeAsync(500);
    }
    expect(streams.length).toBeGreaterThan(5);
    expect(streams.length).toBeLessThan(20);
  });

  it("is opened again when the server ends it in peace", async () => {
    watch();
    await settle();
    streams[0]?.put(null);
    await vi.advanceTimersByTimeAsync(1000);
    expect(open()).toBeGreaterThan(0);
    expect(streams).toHaveLength(2);
  });

  it("is given up for dead when not even a tick comes", async () => {
    watch();
    await settle();
    streams[0]?.put(tick);
    await vi.advanceTimersByTimeAsync(44_000);
    expect(streams).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(3_000);
    expect(streams).toHaveLength(2);
  });
});
