// What a new evaluation is to measure.
import { useQuery } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { violationOf, type ApiError } from "../../api/errors";
import { corporaQuery } from "../../api/queries";
import { Button } from "../../ui/Button";
import { Field } from "../../ui/Field";
import styles from "./Evaluations.module.css";
import { checkTokens, first_values, type EvaluationValues } from "./evaluation";

interface Props {
  model: string;
  // The one that is looked at.
  corpus: string | undefined;
  isBusy: boolean;
  failure: ApiError | undefined;
  onSubmit: (values: EvaluationValues) => void;
  onClose: () => void;
}

const fields = ["corpus_id", "part", "max_tokens"];

export function EvaluationForm({ model, corpus, isBusy, failure, onSubmit, onClose }: Props) {
  const corpora = useQuery(corporaQuery);
  const fitting = (corpora.data ?? []).filter((c) => c.modelId === model);
  const [typed, setTyped] = useState({ ...first_values, corpus: "" });
  const values = { ...typed, corpus: typed.corpus || corpus || fitting[0]?.id || "" };
  const change = (patch: Partial<EvaluationValues>) => setTyped({ ...typed, ...patch });
  const wrong = checkTokens(values.tokens);
  const isAtField = failure?.violations.some((v) => fields.some((name) => v.field.endsWith(name)));
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (wrong === undefined) onSubmit(values);
  };
  return (
    <form className={styles.form} onSubmit={submit} noValidate aria-label="New evaluation">
      <Field label="Corpus" error={violationOf(failure, "corpus_id")}>
        {(control) => (
          <select {...control} value={values.corpus} onChange={(e) => change({ corpus: e.target.value })}>
            {[...new Set([...fitting.map((c) => c.id), values.corpus])].map((id) => (
              <option key={id}>{id}</option>
            ))}
          </select>
        )}
      </Field>
      <Field label="Contexts" error={violationOf(failure, "part")}>
        {(control) => (
          <select {...control} value={values.part} onChange={(e) => change({ part: e.target.value })}>
            <option value="">held out, where there are such</option>
            <option value="heldout">held out</option>
            <option value="all">all</option>
          </select>
        )}
      </Field>
      <Field label="Tokens" error={wrong ?? violationOf(failure, "max_tokens")}>
        {(control) => <input {...control} inputMode="numeric" placeholder="default: 65 536" value={values.tokens} onChange={(e) => change({ tokens: e.target.value })} />}
      </Field>
      <div className={styles.checks}>
        <label>
          <input type="checkbox" checked={values.ablations} onChange={(e) => change({ ablations: e.target.checked })} />
          Zero and mean ablation, for loss recovered
        </label>
        <label>
          <input type="checkbox" checked={values.special} onChange={(e) => change({ special: e.target.checked })} />
          Count special tokens
        </label>
      </div>
      {failure !== undefined && !isAtField && (
        <p className={styles.failure} role="alert">
          {failure.message}
        </p>
      )}
      <div className={styles.submit}>
        <Button look="primary" type="submit" disabled={isBusy}>
          {isBusy ? "Submitting…" : "Start"}
        </Button>
        <Button look="quiet" onClick={onClose}>
          Close
        </Button>
      </div>
    </form>
  );
}
