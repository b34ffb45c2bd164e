// The tab's one WatchJobs stream: open while a view wants it and the tab is seen, reopened with growing
// pauses when it breaks, given up for dead when nothing came for three ticks.
import { jobs as client } from "../api/client";
import { no_jobs, reduceJobs, type JobsAction, type JobsState } from "./reducer";

const first_pause_ms = 500;
const longest_pause_ms = 15_000;
const silence_limit_ms = 45_000;

// The pause before the n-th attempt in a row (n counts from 0), with jitter so that tabs do not come together.
export function pauseBefore(attempt: number, random: number): number {
  return Math.min(longest_pause_ms, first_pause_ms * 2 ** attempt) * (0.75 + 0.5 * random);
}

let state: JobsState = no_jobs;
let users = 0;
let controller: AbortController | null = null;
const listeners = new Set<() => void>();

function dispatch(action: JobsAction): void {
  state = reduceJobs(state, action);
  for (const listener of listeners) listener();
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = window.setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      window.clearTimeout(timer);
      resolve();
    });
  });
}

async function readStream(outer: AbortSignal): Promise<boolean> {
  const inner = new AbortController();
  const abort = () => inner.abort();
  outer.addEventListener("abort", abort);
  let watchdog = 0;
  const alive = () => {
    window.clearTimeout(watchdog);
    watchdog = window.setTimeout(abort, silence_limit_ms);
  };
  let hasReceived = false;
  try {
    alive();
    for await (const event of client.watchJobs({ metrics: true }, { signal: inner.signal, timeoutMs: 0 })) {
      if (outer.aborted) break;
      hasReceived = true;
      alive();
      dispatch({ type: "event", event });
    }
    if (!outer.aborted) dispatch({ type: "lost", error: null });
  } catch (error) {
    if (!outer.aborted) dispatch({ type: "lost", error });
  } finally {
    window.clearTimeout(watchdog);
    outer.removeEventListener("abort", abort);
    inner.abort();
  }
  return hasReceived;
}

async function keepOpen(signal: AbortSignal): Promise<void> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    dispatch({ type: "connect" });
    if (await readStream(signal)) attempt = 0;
    if (!signal.aborted) await sleep(pauseBefore(attempt, Math.random()), signal);
  }
}

function update(): void {
  const isWanted = users > 0 && document.visibilityState !== "hidden";
  if (isWanted && controller === null) {
    controller = new AbortController();
    void keepOpen(controller.signal);
  } else if (!isWanted && controller !== null) {
    controller.abort();
    controller = null;
    dispatch({ type: "close" });
  }
}

document.addEventListener("visibilitychange", update);

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  users++;
  update();
  return () => {
    listeners.delete(listener);
    users--;
    // A view that follows at once keeps the stream.
    window.setTimeout(update, 200);
  };
}

export function snapshot(): JobsState {
  return state;
}
