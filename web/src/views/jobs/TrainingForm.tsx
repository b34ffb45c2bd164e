// The form of a new training job.
import { useMutation, useQuery } from "@tanstack/react-query";
import { useMemo, useState, type FormEvent } from "react";
import { useLocation } from "wouter";

import { jobs } from "../../api/client";
import { describeError } from "../../api/errors";
import { corporaQuery, modelsQuery } from "../../api/queries";
import { Card } from "../../ui/Card";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { jobLink } from "../../url/links";
import { useUrlState } from "../../url/useUrlState";
import { MoreSettings, NumberFields, SelectField, Submit, TextField } from "./FormParts";
import styles from "./Jobs.module.css";
import { checkId, checkNumbers, newKey, shownFields, toTrainingSpec, training_numbers, trainingCodec, trainingDefaults, type FormErrors, type FormValues, type TypedValues } from "./forms";

export default function TrainingForm() {
  usePageTitle("Train an SAE");
  const models = useQuery(modelsQuery);
  const corpora = useQuery(corporaQuery);
  const [typed, set] = useUrlState(trainingCodec);
  const [, navigate] = useLocation();
  const [isChecked, setChecked] = useState(false);
  const values = useMemo(() => complete(typed, models.data ?? [], corpora.data ?? []), [typed, models.data, corpora.data]);
  const key = useMemo(() => ({ of: JSON.stringify(values), key: newKey() }).key, [values]);
  const submit = useMutation({
    mutationFn: () => jobs.submitTraining({ spec: toTrainingSpec(values), idempotencyKey: key }),
    onSuccess: (job) => navigate(jobLink(job.id)),
  });

  const failed = [models, corpora].find((query) => query.isError);
  if (failed) return <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />;
  if (!models.data || !corpora.data) return <Loading what="models and corpora" />;
  if (models.data.length === 0) return <Empty title="Training needs a model." command="featurescope model add ID DIR" />;
  if (corpora.data.length === 0) return <Empty title="Training needs a corpus." command="featurescope corpus add ID FILE... --model MODEL" />;

  const fields = shownFields(training_numbers, values["architecture"] ?? "");
  const errors = check(values);
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
  const hooks = models.data.find((m) => m.id === values["model_id"])?.hookNames ?? [];
  return (
    <div className={styles.form}>
      <header className={styles.head}>
        <h1>Train an SAE</h1>
      </header>
      <Card title="Specification">
        <form onSubmit={onSubmit} noValidate>
          <div className={styles.grid}>
            <TextField {...shared} name="sae_id" label="New SAE's id" />
            <SelectField {...shared} name="model_id" label="Model" options={models.data.map((m) => [m.id, m.id])} />
            <SelectField {...shared} name="corpus_id" label="Corpus" options={corpora.data.map((c) => [c.id, c.id])} />
            <TextField {...shared} name="hook_name" label="Hook point" suggestions={hooks} />
            <SelectField
              {...shared}
              name="architecture"
              label="Architecture"
              options={[
                ["topk", "TopK"],
                ["standard", "Standard (ReLU, L1)"],
              ]}
            />
            <NumberFields {...shared} fields={fields.filter((f) => !f.advanced)} />
          </div>
          <MoreSettings {...shared} fields={fields.filter((f) => f.advanced)} />
          <Submit text="Start training" busy={submit.isPending} error={submit.error} known={Object.keys(trainingCodec)}>
            Runs as a job: it continues after a restart of the server, and other requests are answered meanwhile.
          </Submit>
        </form>
      </Card>
    </div>
  );
}

type Models = NonNullable<Parameters<typeof trainingDefaults>[0]>[];

function complete(typed: TypedValues, models: Models, corpora: Parameters<typeof trainingDefaults>[1]): FormValues {
  const { model, corpus, ...rest } = typed;
  const values = { ...rest, model_id: rest["model_id"] ?? model, corpus_id: rest["corpus_id"] ?? corpus };
  return trainingDefaults(models.find((m) => m.id === values.model_id) ?? models[0], corpora, values);
}

function check(values: FormValues): FormErrors {
  const errors = checkNumbers(shownFields(training_numbers, values["architecture"] ?? ""), values);
  const id = checkId(values["sae_id"] ?? "");
  if (id !== undefined) errors["sae_id"] = id;
  if ((values["hook_name"] ?? "") === "") errors["hook_name"] = "a hook point is needed";
  return errors;
}
