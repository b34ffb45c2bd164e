// A text that is typed quickly and written elsewhere (the URL, a request) when the typing pauses, or at once
// by flush(), e.g. when the box loses the focus.
import { useCallback, useEffect, useRef, useState } from "react";

type Draft<T> = [draft: T, change: (value: T) => void, flush: () => void];

export function useDraft<T>(value: T, commit: (value: T) => void, delay_ms: number): Draft<T> {
  const [draft, setDraft] = useState(value);
  const timer = useRef<number | undefined>(undefined);
  const pending = useRef<{ next: T } | null>(null);
  const latest = useRef(commit);
  const written = useRef(value);
  latest.current = commit;

  // The value changed from outside (back, forward, "copy into the box"): take it.
  useEffect(() => {
    if (Object.is(value, written.current)) return;
    written.current = value;
    pending.current = null;
    window.clearTimeout(timer.current);
    setDraft(value);
  }, [value]);

  useEffect(() => () => window.clearTimeout(timer.current), []);

  const flush = useCallback(() => {
    window.clearTimeout(timer.current);
    if (pending.current === null) return;
    const { next } = pending.current;
    pending.current = null;
    written.current = next;
    latest.current(next);
  }, []);

  const change = useCallback(
    (next: T) => {
      setDraft(next);
      pending.current = { next };
      window.clearTimeout(timer.current);
      timer.current = window.setTimeout(flush, delay_ms);
    },
    [delay_ms, flush],
  );
  return [draft, change, flush];
}
