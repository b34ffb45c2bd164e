// One feature: what it fires on, what it writes, own text through it, and steering with it.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useCallback } from "react";

import { featureActivationsQuery, featureQuery, indexInfoQuery, saeQuery } from "../../api/queries";
import { HistogramCard } from "../../charts/HistogramCard";
import type { Marker } from "../../charts/Histogram";
import type { Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import { column } from "../../lib/sparse";
import { TokenTips } from "../../strip/TokenTips";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading, Warning } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { useUrlState } from "../../url/useUrlState";
import { Provenance } from "../sae/IndexSummary";
import { NoIndex } from "../sae/NoIndex";
import { ExamplesCard } from "./ExamplesCard";
import styles from "./Feature.module.css";
import { FeatureHead } from "./FeatureHead";
import { LogitsCard } from "./LogitsCard";
import { StatsCard } from "./StatsCard";
import { TestCard } from "./TestCard";
import { featureCodec } from "./state";
import { SteerCard } from "./steer/SteerCard";

export function FeatureView({ sae: id, feature }: { sae: string; feature: number }) {
  usePageTitle(`${id} #${feature}`);
  const sae = useQuery(saeQuery(id));
  const [state, set] = useUrlState(featureCodec);
  if (sae.isError) return <ErrorNote error={sae.error} onRetry={() => void sae.refetch()} />;
  if (!sae.data) return <Loading what={`SAE ${id}`} />;
  if (!Number.isSafeInteger(feature) || feature < 0 || feature >= sae.data.dSae) {
    return <Empty title={`${id} has no such feature: its features are 0 to ${sae.data.dSae - 1}.`} />;
  }
  const corpus = state.corpus === "" ? sae.data.indexedCorpora[0] : state.corpus;
  if (corpus === undefined) {
    return <NoIndex sae={id} />;
  }
  return <Indexed sae={sae.data} corpus={corpus} feature={feature} text={state.text} set={set} />;
}

interface Props {
  sae: Sae;
  corpus: string;
  feature: number;
  text: string;
  set: (patch: { text?: string; corpus?: string }, options?: { replace?: boolean }) => void;
}

function Indexed({ sae, corpus, feature, text, set }: Props) {
  const index = { sae: sae.id, corpus };
  const query = useQuery({ ...featureQuery(index, feature), placeholderData: keepPreviousData });
  const test = useQuery({
    ...featureActivationsQuery(sae.id, feature, text),
    // While the next answer comes, the last one of the same feature stays.
    placeholderData: (last, query) => (query?.queryKey[2] === feature ? last : undefined),
  });
  const info = useQuery(indexInfoQuery(index));
  const data = query.isPlaceholderData ? undefined : query.data;
  const stats = query.data?.stats;
  const largest = stats?.max ?? 0;
  const onType = useCallback((next: string) => set({ text: next }, { replace: true }), [set]);
  const onTest = useCallback(
    (next: string) => {
      set({ text: next });
      document.getElementById("test")?.scrollIntoView({ block: "nearest", behavior: "smooth" });
    },
    [set],
  );
  const isDead = stats !== undefined && stats.nActive === 0n;
  return (
    <TokenTips>
      <FeatureHead sae={sae} index={index} feature={feature} data={data} onCorpus={(next) => set({ corpus: next })} />
      {query.isError && <ErrorNote error={query.error} onRetry={() => void query.refetch()} />}
      <div className={styles.columns} aria-busy={query.isPlaceholderData}>
        <div className={styles.side}>
          {isDead && <Warning>This feature never fired on {corpus}. Own text may still activate it.</Warning>}
          {stats && <StatsCard stats={stats} />}
          {query.data && (
            <HistogramCard
              title="Activations"
              histogram={query.data.activations}
              counted="tokens"
              quantity="activation"
              axis="log"
              markers={markers(text, test.data, feature)}
            />
          )}
          {query.data && <LogitsCard top={query.data.topLogits} bottom={query.data.bottomLogits} />}
          {info.data && <Provenance info={info.data} sae={sae} />}
        </div>
        <div className={styles.main}>
          <TestCard
            sae={sae.id}
            feature={feature}
            text={text}
            answer={test.data}
            error={test.error}
            busy={test.isFetching}
            largest={largest}
            onText={onType}
          />
          {stats && <SteerCard key={feature} model={sae.modelId} sae={sae.id} feature={feature} largest={largest} />}
          <ExamplesCard index={index} feature={feature} largest={largest} onTest={onTest} />
        </div>
      </div>
    </TokenTips>
  );
}

// The strongest activation on the own text, marked in the histogram.
function markers(text: string, answer: Parameters<typeof TestCard>[0]["answer"], feature: number): Marker[] {
  const found = answer?.texts[0];
  if (text === "" || found === undefined) return [];
  const best = Math.max(0, ...column(found.saes[0]?.acts, feature, found.tokens.length));
  return best > 0 ? [{ value: best, label: "own text" }] : [];
}
