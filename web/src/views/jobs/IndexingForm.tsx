// The form of a new indexing job.
import { useMutation, useQuery } from "@tanstack/react-query";
import { useMemo, useState, type FormEvent } from "react";
import { useLocation } from "wouter";

import { jobs } from "../../api/client";
import { describeError } from "../../api/errors";
import { corporaQuery, saesQuery } from "../../api/queries";
import { Card } from "../../ui/Card";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { jobLink } from "../../url/links";
import { useUrlState } from "../../url/useUrlState";
import { MoreSettings, NumberFields, SelectField, Submit } from "./FormParts";
import styles from "./Jobs.module.css";
import { checkNumbers, indexing_numbers, indexingCodec, newKey, onlyTyped, toIndexingSpec, type FormValues } from "./forms";

export default function IndexingForm() {
  usePageTitle("Index an SAE");
  const saes = useQuery(saesQuery);
  const corpora = useQuery(corporaQuery);
  const [typed, set] = useUrlState(indexingCodec);
  const [, navigate] = useLocation();
  const [isChecked, setChecked] = useState(false);
  const usable = useMemo(() => saes.data?.filter((s) => !s.vectorsOnly) ?? [], [saes.data]);
  const values = useMemo(() => {
    const { sae, corpus, ...rest } = onlyTyped(typed);
    const sae_id = rest["sae_id"] ?? sae ?? usable[0]?.id ?? "";
    const model = usable.find((s) => s.id === sae_id)?.modelId;
    const fitting = corpora.data?.find((c) => c.modelId === model)?.id;
    return { ...rest, sae_id, corpus_id: rest["corpus_id"] ?? corpus ?? fitting ?? "" } as FormValues;
  }, [typed, usable, corpora.data]);
  const key = useMemo(() => ({ of: JSON.stringify(values), key: newKey() }).key, [values]);
  const submit = useMutation({
    mutationFn: () => jobs.submitIndexing({ spec: toIndexingSpec(values), idempotencyKey: key }),
    onSuccess: (job) => navigate(jobLink(job.id)),
  });

  const failed = [saes, corpora].find((query) => query.isError);
  if (failed) return <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />;
  if (!saes.data || !corpora.data) return <Loading what="SAEs and corpora" />;
  if (usable.length === 0) return <Empty title="Indexing needs an SAE." command="featurescope sae add ID PATH --model MODEL" />;
  if (corpora.data.length === 0) return <Empty title="Indexing needs a corpus." command="featurescope corpus add ID FILE... --model MODEL" />;

  const errors = checkNumbers(indexing_numbers, values);
  const shared = {
    values,
    errors: isChecked ? errors : {},
    failure: submit.error ? describeError(submit.error) : undefined,
    onChange: (name: string, value: string) => {
      submit.reset();
      set({ [name]: value }, { replace: true });
    },
  };
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    setChecked(true);
    if (Object.keys(errors).length === 0) submit.mutate();
  };
  return (
    <div className={styles.form}>
      <header className={styles.head}>
        <h1>Index an SAE</h1>
      </header>
      <Card title="Specification">
        <form onSubmit={onSubmit} noValidate>
          <div className={styles.grid}>
            <SelectField {...shared} name="sae_id" label="SAE" options={usable.map((s) => [s.id, s.id])} />
            <SelectField {...shared} name="corpus_id" label="Corpus" options={corpora.data.map((c) => [c.id, c.id])} />
            <NumberFields {...shared} fields={indexing_numbers.filter((f) => !f.advanced)} />
          </div>
          <MoreSettings {...shared} fields={indexing_numbers.filter((f) => f.advanced)} />
          <Submit text="Start indexing" busy={submit.isPending} error={submit.error} known={Object.keys(indexingCodec)}>
            One pass over the corpus finds out what every feature fires on.
          </Submit>
        </form>
      </Card>
    </div>
  );
}
