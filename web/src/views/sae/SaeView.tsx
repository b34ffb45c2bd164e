// One SAE: its index' summary, and the table of its features.
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link } from "wouter";

import { featuresQuery, indexInfoQuery, saeQuery } from "../../api/queries";
import { HistogramCard } from "../../charts/HistogramCard";
import type { Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatCount } from "../../lib/format";
import { ButtonLink } from "../../ui/Button";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import { useShortcut } from "../../ui/shortcuts";
import { usePageTitle } from "../../ui/usePageTitle";
import { flagParam } from "../../url/codec";
import { home_link, textLink } from "../../url/links";
import { useUrlState } from "../../url/useUrlState";
import { RandomFeature } from "../feature/RandomFeature";
import { CheckCard } from "./CheckCard";
import { EvaluationsCard } from "./EvaluationsCard";
import { NoIndex } from "./NoIndex";
import { RecognisedCard } from "./RecognisedCard";
import { FeatureTable } from "./FeatureTable";
import { Filters } from "./Filters";
import { IndexTiles, Provenance } from "./IndexSummary";
import { Pager } from "./Pager";
import styles from "./SaeView.module.css";
import { first_page, listingCodec, toListing, type ListingState } from "./listing";
import { moveInTable } from "./moveInTable";
import { listingKey, PageTrail } from "./trail";

const viewCodec = { ...listingCodec, search: flagParam() };

export function SaeView({ sae: id }: { sae: string }) {
  usePageTitle(id);
  const sae = useQuery(saeQuery(id));
  const [state, set] = useUrlState(viewCodec);
  if (sae.isError) return <ErrorNote error={sae.error} onRetry={() => void sae.refetch()} />;
  if (!sae.data) return <Loading what={`SAE ${id}`} />;
  const corpus = state.corpus === "" ? sae.data.indexedCorpora[0] : state.corpus;
  return (
    <>
      <Head sae={sae.data} corpus={corpus} onCorpus={(next) => set({ corpus: next, ...first_page })} />
      {corpus === undefined ? (
        <div className={styles.unindexed}>
          {sae.data.vectorsOnly ? (
            <Empty title="This SAE is for vectors only: its width is not that of a hook point." command={`featurescope sae encode ${id} --in x.safetensors --out acts.safetensors`} />
          ) : (
            <div className={styles.side}>
              <NoIndex sae={id} />
              <EvaluationsCard sae={id} model={sae.data.modelId} corpus={undefined} />
            </div>
          )}
          <div className={styles.side}>
            <RecognisedCard sae={sae.data} />
            {!sae.data.vectorsOnly && <CheckCard sae={id} />}
          </div>
        </div>
      ) : (
        <Features sae={sae.data} corpus={corpus} state={state} focus={state.search} set={set} />
      )}
    </>
  );
}

function Head({ sae, corpus, onCorpus }: { sae: Sae; corpus: string | undefined; onCorpus: (id: string) => void }) {
  const index = corpus === undefined ? undefined : { sae: sae.id, corpus };
  return (
    <header className={styles.head}>
      <nav className={styles.path} aria-label="Path">
        <Link href={home_link}>Home</Link> <span aria-hidden="true">/</span>{" "}
        <Link href={`/?model=${sae.modelId}`}>{sae.modelId}</Link>
      </nav>
      <h1>{sae.id}</h1>
      <p className={styles.facts}>
        <span>{sae.architecture}</span>
        {sae.k > 0 && <span>k = {sae.k}</span>}
        <span className="mono">{sae.hookName}</span>
        <span>
          d_sae {formatCount(sae.dSae)} · d_in {formatCount(sae.dIn)}
        </span>
      </p>
      <div className={styles.actions}>
        {corpus !== undefined && (
          <label className={styles.corpus}>
            Index over{" "}
            <select value={corpus} onChange={(e) => onCorpus(e.target.value)}>
              {[...new Set([...sae.indexedCorpora, corpus])].map((c) => (
                <option key={c}>{c}</option>
              ))}
            </select>
          </label>
        )}
        {index && <RandomFeature index={index} d_sae={sae.dSae} />}
        <ButtonLink href={textLink({ sae: sae.id })}>Explore a text</ButtonLink>
      </div>
    </header>
  );
}

interface FeaturesProps {
  sae: Sae;
  corpus: string;
  state: ListingState;
  focus: boolean;
  set: (patch: Partial<ListingState>, options?: { replace?: boolean }) => void;
}

function Features({ sae, corpus, state, focus, set }: FeaturesProps) {
  const index = { sae: sae.id, corpus };
  const info = useQuery(indexInfoQuery(index));
  const listing = toListing(index, state);
  const list = useQuery({ ...featuresQuery(listing), placeholderData: keepPreviousData });
  const [trail] = useState(() => new PageTrail());
  const key = listingKey(listing);
  useEffect(() => trail.remember(key, state.page, state.after), [trail, key, state.page, state.after]);
  useShortcut("j", () => moveInTable(1));
  useShortcut("k", () => moveInTable(-1));
  if (info.isError) return <ErrorNote error={info.error} onRetry={() => void info.refetch()} />;
  const rows = list.data?.features ?? [];
  const total = Number(list.data?.total ?? 0n);
  return (
    <>
      {info.data && <IndexTiles info={info.data} />}
      <div className={styles.evaluations}>
        <EvaluationsCard sae={sae.id} model={sae.modelId} corpus={corpus} />
      </div>
      <div className={styles.columns}>
        <aside className={styles.side} aria-label="Filter and summary">
          <Filters state={state} focus={focus} onChange={set} />
          <HistogramCard
            title="log₁₀ density"
            definition="log10_density"
            histogram={info.data?.log10Density}
            counted="features"
            quantity="density"
            axis="exponent"
            width={260}
          />
          <RecognisedCard sae={sae} />
          <CheckCard sae={sae.id} />
          {info.data && <Provenance info={info.data} sae={sae} />}
        </aside>
        <section className={styles.list} aria-label="Features" aria-busy={list.isFetching}>
          {list.isError ? (
            <ErrorNote error={list.error} onRetry={() => set({ ...first_page })} />
          ) : list.data === undefined ? (
            <Loading what="features" />
          ) : (
            <>
              <FeatureTable
                sae={sae.id}
                rows={rows}
                total={total}
                first_row={(state.page - 1) * state.size + 1}
                state={{ ...state, corpus }}
                onSort={set}
              />
              {rows.length === 0 && <Empty title="No feature passes this filter." />}
              <Pager
                page={state.page}
                size={state.size}
                shown={rows.length}
                total={total}
                next={list.isPlaceholderData ? "" : list.data.nextPageToken}
                previous={trail.tokenOf(key, state.page - 1)}
                onGo={(page, after) => set({ page, after })}
                onSize={(size) => set({ size, ...first_page })}
              />
            </>
          )}
        </section>
      </div>
    </>
  );
}
