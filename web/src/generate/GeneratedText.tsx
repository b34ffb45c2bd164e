// The prompt and the generated tokens as they come; each token tells its log-probability.
import { memo, useLayoutEffect, useRef, useState, type KeyboardEvent } from "react";

import type { Token } from "../gen/featurescope/v1/catalog_pb.js";
import { breaksLine, quoted } from "../lib/token";
import { formatNumber, formatShare } from "../lib/format";
import { rove } from "../strip/strip";
import { registerStrip } from "../strip/tips";
import styles from "./GeneratedText.module.css";
import { reason_texts, type BranchState } from "./reducer";

interface Props {
  title: string;
  prompt: readonly Token[];
  branch: BranchState;
  running: boolean;
  // From this token on the text differs from the other one.
  differs_at?: number | undefined;
}

export const GeneratedText = memo(function GeneratedText({ title, prompt, branch, running, differs_at }: Props) {
  const ref = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(0);
  const { tokens, reason } = branch;

  useLayoutEffect(() => {
    if (ref.current === null) return;
    registerStrip(ref.current, (i) => {
      const generated = tokens[i];
      if (generated === undefined) return null;
      return {
        title: quoted(generated.token),
        rows: [
          ["log-probability", formatNumber(generated.logprob)],
          ["probability", formatShare(Math.exp(generated.logprob))],
          ["position", String(prompt.length + i)],
        ],
        bars: generated.topLogprobs.map((top) => [quoted(top.token), Math.exp(top.logprob)] as const),
      };
    });
  }, [tokens, prompt]);

  const onKeyDown = (event: KeyboardEvent) => {
    const next = rove(event.key, active, tokens.length);
    if (next === null || next < 0) return;
    event.preventDefault();
    setActive(next);
    ref.current?.querySelector<HTMLElement>(`[data-i="${next}"]`)?.focus();
  };

  return (
    <section className={styles.pane} aria-label={title}>
      <h3>
        {title} <small>
          {reason !== null && `${tokens.length} tokens, ${reason_texts[reason]}`}
          {differs_at !== undefined && ` · differs from token ${differs_at + 1} on`}
        </small>
      </h3>
      <div className={styles.text} ref={ref} data-strip role="group" aria-label={`${title}: tokens`} onKeyDown={onKeyDown}>
        <span className={styles.prompt}>
          {prompt.map((token, i) => (
            <span key={i}>
              {token.special ? "" : token.display}
              {breaksLine(token) && <br />}
            </span>
          ))}
        </span>
        {tokens.map(({ token, logprob }, i) => (
          <span key={i}>
            <span
              data-i={i}
              className={i === differs_at ? styles.differs : undefined}
              tabIndex={i === active ? 0 : -1}
              role={i === active ? "img" : undefined}
              aria-label={i === active ? `token ${quoted(token)}, log-probability ${formatNumber(logprob)}` : undefined}
            >
              {token?.display}
            </span>
            {token && breaksLine(token) && <br />}
          </span>
        ))}
        {running && reason === null && <span className={styles.cursor} aria-hidden="true" />}
      </div>
    </section>
  );
});
