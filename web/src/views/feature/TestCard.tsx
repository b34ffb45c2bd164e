// Own text through this feature, live: the answer follows the typing, and stale questions are cancelled.
import { useEffect, useRef } from "react";

import type { ComputeActivationsResponse } from "../../gen/featurescope/v1/explore_pb.js";
import { formatActivation, formatNumber } from "../../lib/format";
import { column } from "../../lib/sparse";
import { HeatStrip } from "../../strip/HeatStrip";
import { strongestIndex } from "../../strip/strip";
import { Button, ButtonLink } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { ErrorNote } from "../../ui/ErrorNote";
import { TokenText } from "../../ui/TokenText";
import { useShortcut } from "../../ui/shortcuts";
import { useDraft } from "../../url/useDraft";
import { textLink } from "../../url/links";
import styles from "./Feature.module.css";

export const typing_pause_ms = 250;

interface Props {
  sae: string;
  feature: number;
  text: string;
  answer: ComputeActivationsResponse | undefined;
  error: unknown;
  busy: boolean;
  // The feature's largest activation over the corpus: the strongest colour.
  largest: number;
  onText: (text: string) => void;
}

export function TestCard({ sae, feature, text, answer, error, busy, largest, onText }: Props) {
  const box = useRef<HTMLTextAreaElement>(null);
  const [draft, setDraft, flush] = useDraft(text, onText, typing_pause_ms);
  useShortcut("t", () => box.current?.focus());
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(200, element.scrollHeight + 2)}px`;
  }, [draft]);
  return (
    <Card
      id="test"
      title="Test own text"
      note={busy ? "computing…" : undefined}
      actions={
        <>
          {text !== "" && (
            <ButtonLink look="quiet" href={textLink({ sae, text })}>
              All features on this text
            </ButtonLink>
          )}
          <Button look="quiet" disabled={draft === ""} onClick={() => onText("")}>
            Clear
          </Button>
        </>
      }
    >
      <textarea
        ref={box}
        className={`${styles.box} mono`}
        rows={2}
        spellCheck={false}
        aria-label="Text to test this feature on"
        placeholder="Type or paste a text to see where this feature fires (t)"
        value={draft}
        onChange={(e) => setDraft(e.target.value)}
        onBlur={flush}
        onKeyDown={(e) => {
          if (e.key === "Escape") e.currentTarget.blur();
        }}
      />
      {text !== "" && error !== null && <ErrorNote error={error} />}
      {text !== "" && error === null && answer && <Answer feature={feature} answer={answer} largest={largest} />}
    </Card>
  );
}

function Answer({ feature, answer, largest }: { feature: number; answer: ComputeActivationsResponse; largest: number }) {
  const tokens = answer.texts[0]?.tokens ?? [];
  const of_sae = answer.texts[0]?.saes[0];
  const acts = column(of_sae?.acts, feature, tokens.length);
  const best = strongestIndex(acts);
  const n_active = acts.filter((act) => act > 0).length;
  const scale = Math.max(largest, acts[best] ?? 0);
  return (
    <div className={styles.answer} data-testid="test-answer">
      <HeatStrip tokens={tokens} acts={acts} max={scale} values breaks label={`Own text: ${summary(n_active, tokens.length)}`} />
      <p className={styles.verdict} role="status">
        {summary(n_active, tokens.length)}
        {best >= 0 && (
          <>
            , most on <b><TokenText token={tokens[best]} /></b> with <b>{formatActivation(acts[best] ?? 0)}</b>
            {largest > 0 && ` (${formatNumber((acts[best] ?? 0) / largest, 2)} × the corpus' max)`}
          </>
        )}
        .
      </p>
    </div>
  );
}

function summary(n_active: number, n_tokens: number): string {
  return n_active === 0 ? `Does not fire on these ${n_tokens} tokens` : `Fires on ${n_active} of ${n_tokens} tokens`;
}
