// A text as tokens on the heat scale. The strongest token is boxed, so that colour is not the only sign;
// arrow keys move through the tokens; the values are in the tooltip, in the labels, and on demand below.
import { memo, useCallback, useLayoutEffect, useRef, useState, type KeyboardEvent } from "react";

import type { Token } from "../gen/featurescope/v1/catalog_pb.js";
import { heatStep } from "../lib/colour";
import { formatActivation } from "../lib/format";
import { breaksLine, quoted } from "../lib/token";
import styles from "./HeatStrip.module.css";
import { rove, strongestIndex, tokenLabel } from "./strip";
import { registerStrip } from "./tips";

interface Props {
  tokens: readonly Token[];
  acts: readonly number[];
  // The activation that has the strongest colour.
  max: number;
  label: string;
  // Position of the first token.
  first?: number;
  // Index of the boxed token; by default the strongest.
  mark?: number;
  // Whether line breaks of the text break the line.
  breaks?: boolean;
  // Whether each active token has its value below it.
  values?: boolean;
  onPick?: ((index: number) => void) | undefined;
}

export const HeatStrip = memo(function HeatStrip(props: Props) {
  const { tokens, acts, max, label, first = 0, breaks = false, values = false, onPick } = props;
  const mark = props.mark ?? strongestIndex(acts);
  const ref = useRef<HTMLDivElement>(null);
  const [roved, setRoved] = useState<number | null>(null);
  const active = Math.min(roved ?? Math.max(mark, 0), tokens.length - 1);

  useLayoutEffect(() => {
    if (ref.current === null) return;
    registerStrip(ref.current, (i) => {
      const token = tokens[i];
      if (token === undefined) return null;
      return {
        title: quoted(token),
        rows: [
          ["activation", formatActivation(acts[i] ?? 0)],
          ["position", String(first + i)],
          ["token id", String(token.id)],
        ],
      };
    });
  }, [tokens, acts, first]);

  const onKeyDown = useCallback(
    (event: KeyboardEvent) => {
      if ((event.key === "Enter" || event.key === " ") && onPick !== undefined) {
        event.preventDefault();
        onPick(active);
        return;
      }
      const next = rove(event.key, active, tokens.length);
      if (next === null) return;
      event.preventDefault();
      setRoved(next);
      ref.current?.querySelector<HTMLElement>(`[data-i="${next}"]`)?.focus();
    },
    [active, tokens.length, onPick],
  );

  return (
    <div
      ref={ref}
      data-strip
      role="group"
      aria-label={label}
      className={values ? `${styles.strip} ${styles.values}` : styles.strip}
      onKeyDown={onKeyDown}
    >
      {tokens.map((token, i) => {
        const act = acts[i] ?? 0;
        const step = heatStep(act, max);
        const isActive = i === active;
        return (
          <span key={i}>
            <span
              data-i={i}
              data-step={step}
              className={i === mark ? styles.mark : token.special ? styles.special : undefined}
              style={
                step > 0
                  ? { background: `var(--heat-${step})`, color: `var(--heat-ink-${step})` }
                  : undefined
              }
              tabIndex={isActive ? 0 : -1}
              role={isActive ? (onPick ? "button" : "img") : undefined}
              aria-label={isActive ? tokenLabel(token, act, first + i) : undefined}
              onClick={onPick && (() => onPick(i))}
            >
              {token.display}
            </span>
            {values && <small aria-hidden="true">{act > 0 ? formatActivation(act) : "\u00a0"}</small>}
            {breaks && breaksLine(token) && <br />}
          </span>
        );
      })}
    </div>
  );
});
