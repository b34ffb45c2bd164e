// A text and the features that fire on it: over the whole text, and token by token.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";

import { featureActivationsQuery, saesQuery, scores, topOverTextQuery, topPerTokenQuery } from "../../api/queries";
import { formatNumber } from "../../lib/format";
import { HeatStrip } from "../../strip/HeatStrip";
import { TokenTips } from "../../strip/TokenTips";
import { column } from "../../lib/sparse";
import { Card } from "../../ui/Card";
import { Choice } from "../../ui/Choice";
import { ErrorNote } from "../../ui/ErrorNote";
import { Field } from "../../ui/Field";
import { Empty, Loading } from "../../ui/Notes";
import { Term } from "../../ui/Term";
import { useShortcut } from "../../ui/shortcuts";
import { usePageTitle } from "../../ui/usePageTitle";
import { choiceParam, optionalNumberParam, textParam } from "../../url/codec";
import { useDraft } from "../../url/useDraft";
import { useUrlState } from "../../url/useUrlState";
import styles from "./TextView.module.css";
import { TokenFeatures } from "./TokenFeatures";
import { TopFeatures } from "./TopFeatures";

const codec = {
  sae: textParam(),
  text: textParam(),
  score: choiceParam(["max", "mean", "sum"], "max"),
  // The feature that the strip shows, and the token whose features are listed.
  feature: optionalNumberParam({ min: 0 }),
  token: optionalNumberParam({ min: 0 }),
};

const k_over_text = 20;
const k_per_token = 6;

export function TextView() {
  usePageTitle("Text");
  const saes = useQuery(saesQuery);
  const [state, set] = useUrlState(codec);
  const usable = saes.data?.filter((s) => !s.vectorsOnly) ?? [];
  const sae = usable.find((s) => s.id === state.sae) ?? usable[0];
  const id = sae?.id ?? "";
  const box = useRef<HTMLTextAreaElement>(null);
  useShortcut("t", () => box.current?.focus());
  useShortcut("/", () => box.current?.focus());
  const over = useQuery({
    ...topOverTextQuery(id, state.text, state.score, k_over_text),
    placeholderData: keepPreviousData,
  });
  const per = useQuery({ ...topPerTokenQuery(id, state.text, k_per_token), placeholderData: keepPreviousData });
  const text = over.data?.texts[0];
  const found = text?.saes[0];
  const shown = state.feature ?? found?.topFeatures[0];
  const isListed = shown !== undefined && (found?.topFeatures.includes(shown) ?? false);
  // Chosen by an address or before the score changed: not among the strongest, so asked for by itself.
  const single = useQuery({ ...featureActivationsQuery(id, shown ?? 0, state.text), enabled: shown !== undefined && !isListed && found !== undefined });
  const [draft, setDraft, flush] = useDraft(
    state.text,
    (text) => set({ text, token: undefined, feature: undefined }, { replace: true }),
    300,
  );
  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(220, element.scrollHeight + 2)}px`;
  }, [draft]);

  if (saes.isError) return <ErrorNote error={saes.error} onRetry={() => void saes.refetch()} />;
  if (saes.data === undefined) return <Loading what="the SAEs" />;
  if (sae === undefined) {
    return <Empty title="There is no SAE that reads text yet." command="featurescope sae add ID PATH --model MODEL" />;
  }

  const tokens = text?.tokens ?? [];
  const acts = shown === undefined ? [] : column(isListed ? found?.acts : single.data?.texts[0]?.saes[0]?.acts, shown, tokens.length);
  const failed = [over, per].find((query) => query.isError);
  return (
    <TokenTips>
      <header className={styles.head}>
        <h1>Features on a text</h1>
        <div className={styles.controls}>
          <Field label="SAE">
            {(control) => (
              <select {...control} value={id} onChange={(e) => set({ sae: e.target.value, feature: undefined })}>
                {usable.map((s) => (
                  <option key={s.id} value={s.id}>
                    {s.id} ({s.hookName})
                  </option>
                ))}
              </select>
            )}
          </Field>
        </div>
      </header>
      <textarea
        ref={box}
        className={`${styles.box} mono`}
        rows={3}
        aria-label="Text"
        spellCheck={false}
        placeholder="Type or paste a text to see which features fire on it"
        value={draft}
        onChange={(e) => setDraft(e.target.value)}
        onBlur={flush}
        onKeyDown={(e) => {
          if (e.key === "Escape") e.currentTarget.blur();
        }}
      />
      {state.text === "" ? (
        <Empty title="No text yet.">
          <p>The strongest features of the whole text and of each token appear here as you type.</p>
        </Empty>
      ) : failed ? (
        <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />
      ) : found === undefined ? (
        <Loading what="activations" />
      ) : (
        <div className={styles.results} aria-busy={over.isFetching || per.isFetching}>
          <div className={styles.strip}>
            <Card
              title={shown === undefined ? "No feature fires" : `Feature ${shown} on the text`}
              note={
                <>
                  {tokens.length} tokens · <Term id="mean_l0">L0</Term> {formatNumber(found.l0)} ·{" "}
                  <Term id="explained_variance">explained variance</Term> {formatNumber(found.explainedVariance)}
                </>
              }
            >
              <HeatStrip
                tokens={tokens}
                acts={acts}
                max={Math.max(0, ...acts)}
                breaks
                label={shown === undefined ? "Text" : `Text, activations of feature ${shown}`}
                onPick={(token) => set({ token })}
              />
            </Card>
          </div>
          <Card
            title="Strongest over the text"
            flush
            actions={
              <Choice
                label="Score over the text"
                value={state.score}
                options={(Object.keys(scores) as (keyof typeof scores)[]).map((s) => [s, s])}
                onChange={(score) => set({ score })}
              />
            }
          >
            <TopFeatures
              sae={sae}
              found={found}
              tokens={tokens}
              text={state.text}
              shown={shown}
              onShow={(feature) => set({ feature }, { replace: true })}
            />
          </Card>
          <Card title="Strongest at each token" flush>
            <TokenFeatures
              sae={sae.id}
              text={per.data?.texts[0]}
              own_text={state.text}
              chosen={state.token}
              onChoose={(token) => set({ token })}
            />
          </Card>
        </div>
      )}
    </TokenTips>
  );
}
