// Where the feature is, and the way to the next, the previous and any other one.
import { useState, type FormEvent } from "react";
import { Link, useLocation, useSearch } from "wouter";

import type { Index } from "../../api/queries";
import type { Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import type { Feature } from "../../gen/featurescope/v1/features_pb.js";
import { ButtonLink } from "../../ui/Button";
import { TokenText } from "../../ui/TokenText";
import { useShortcut } from "../../ui/shortcuts";
import { home_link, saeLink } from "../../url/links";
import styles from "./FeatureHead.module.css";
import { RandomFeature } from "./RandomFeature";
import { siblingLink } from "./state";

interface Props {
  sae: Sae;
  index: Index;
  feature: number;
  data: Feature | undefined;
  onCorpus: (corpus: string) => void;
}

export function FeatureHead({ sae, index, feature, data, onCorpus }: Props) {
  const search = useSearch();
  const [, navigate] = useLocation();
  const to = (other: number) => siblingLink(sae.id, other, search);
  const next = data?.nextAlive;
  const previous = data?.previousAlive;
  useShortcut("j", next === undefined ? undefined : () => navigate(to(next)));
  useShortcut("k", previous === undefined ? undefined : () => navigate(to(previous)));
  useShortcut("/", () => navigate(saeLink(sae.id, { corpus: index.corpus, search: "1" })));
  return (
    <header className={styles.head}>
      <nav className={styles.path} aria-label="Path">
        <Link href={home_link}>Home</Link> <span aria-hidden="true">/</span>{" "}
        <Link href={`/?model=${sae.modelId}`}>{sae.modelId}</Link> <span aria-hidden="true">/</span>{" "}
        <Link href={saeLink(sae.id, { corpus: index.corpus })}>{sae.id}</Link>
        <span className={styles.hook}>{sae.hookName}</span>
      </nav>
      <h1>
        <span className={styles.hash}>#</span>
        {feature}
      </h1>
      {data?.stats?.topToken !== undefined && (
        <p className={styles.brief}>
          fires most on <b><TokenText token={data.stats.topToken} /></b>
          {data.stats.topLogitToken && (
            <>
              , raises <b><TokenText token={data.stats.topLogitToken} /></b>
            </>
          )}
        </p>
      )}
      <div className={styles.actions}>
        <label className={styles.corpus}>
          Index over{" "}
          <select value={index.corpus} onChange={(e) => onCorpus(e.target.value)}>
            {[...new Set([...sae.indexedCorpora, index.corpus])].map((c) => (
              <option key={c}>{c}</option>
            ))}
          </select>
        </label>
        <Step label="Previous" name="Previous alive feature" shortcut="k" href={previous === undefined ? undefined : to(previous)} />
        <Step label="Next" name="Next alive feature" shortcut="j" href={next === undefined ? undefined : to(next)} />
        <RandomFeature index={index} d_sae={sae.dSae} />
        <Jump key={feature} d_sae={sae.dSae} onJump={(other) => navigate(to(other))} />
      </div>
    </header>
  );
}

function Step({ label, name, shortcut, href }: { label: string; name: string; shortcut: string; href: string | undefined }) {
  if (href === undefined) {
    return (
      <span className={styles.off} aria-hidden="true">
        {label} <kbd>{shortcut}</kbd>
      </span>
    );
  }
  return (
    <ButtonLink href={href} title={name}>
      {label} <kbd>{shortcut}</kbd>
    </ButtonLink>
  );
}

function Jump({ d_sae, onJump }: { d_sae: number; onJump: (feature: number) => void }) {
  const [text, setText] = useState("");
  const isGood = /^\d+$/.test(text.trim()) && Number(text) < d_sae;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (isGood) onJump(Number(text));
  };
  return (
    <form onSubmit={submit}>
      <input
        className={styles.jump}
        aria-label={`Go to feature, 0 to ${d_sae - 1}`}
        aria-invalid={(text !== "" && !isGood) || undefined}
        inputMode="numeric"
        placeholder="Go to #"
        value={text}
        onChange={(e) => setText(e.target.value)}
      />
    </form>
  );
}
