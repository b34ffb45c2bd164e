// Which runs are shown, which one stands out, and how the curves are drawn.
import { useState } from "react";

import { splitList } from "../../training/sweep";
import { choiceParam, textParam } from "../../url/codec";
import { useUrlState } from "../../url/useUrlState";

const codec = {
  // The keys of runs that are switched off, with commas.
  hide: textParam(),
  y: choiceParam(["linear", "log"], "linear"),
  pareto: choiceParam(["plot", "table"], "plot"),
};

export interface RunsView {
  isHidden: (key: string) => boolean;
  toggle: (key: string) => void;
  focus: string | null;
  setFocus: (key: string | null) => void;
  y: "linear" | "log";
  setY: (y: "linear" | "log") => void;
  pareto: "plot" | "table";
  setPareto: (pareto: "plot" | "table") => void;
}

export function useRunsView(): RunsView {
  const [{ hide, y, pareto }, set] = useUrlState(codec);
  const [focus, setFocus] = useState<string | null>(null);
  const hidden = splitList(hide);
  return {
    isHidden: (key) => hidden.includes(key),
    toggle: (key) => set({ hide: (hidden.includes(key) ? hidden.filter((k) => k !== key) : [...hidden, key]).join(",") }),
    focus,
    setFocus,
    y,
    setY: (next) => set({ y: next }),
    pareto,
    setPareto: (next) => set({ pareto: next }),
  };
}
