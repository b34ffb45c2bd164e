// The form of a new training job.
import { useQuery } from "@tanstack/react-query";
import { useLocation } from "wouter";

import { jobs } from "../../api/client";
import { corporaQuery, modelsQuery } from "../../api/queries";
import { checkId, checkNumbers, withErrors, type FormErrors, type FormValues, type TypedValues } from "../../forms/fields";
import { FormPage, Grid, MoreSettings, NumberFields, SelectField, TextField } from "../../forms/FormParts";
import { useForm } from "../../forms/useForm";
import type { Corpus, Model } from "../../gen/featurescope/v1/catalog_pb.js";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { jobLink } from "../../url/links";
import { shownFields, toTrainingSpec, training_numbers, trainingCodec, trainingDefaults } from "./forms";

export default function TrainingForm() {
  usePageTitle("Train an SAE");
  const models = useQuery(modelsQuery);
  const corpora = useQuery(corporaQuery);
  const failed = [models, corpora].find((query) => query.isError);
  if (failed) return <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />;
  if (!models.data || !corpora.data) return <Loading what="models and corpora" />;
  if (models.data.length === 0) return <Empty title="Training needs a model." command="featurescope model add ID DIR" />;
  if (corpora.data.length === 0) return <Empty title="Training needs a corpus." command="featurescope corpus add ID FILE... --model MODEL" />;
  return <Form models={models.data} corpora={corpora.data} />;
}

function Form({ models, corpora }: { models: Model[]; corpora: Corpus[] }) {
  const [, navigate] = useLocation();
  const { values, shared, form } = useForm({
    codec: trainingCodec,
    complete: (typed) => complete(typed, models, corpora),
    check,
    send: (values, key) => jobs.submitTraining({ spec: toTrainingSpec(values), idempotencyKey: key }),
    done: (job) => navigate(jobLink(job.id)),
  });
  const fields = shownFields(training_numbers, values["architecture"] ?? "");
  const advanced = fields.filter((f) => f.advanced);
  const hooks = models.find((m) => m.id === values["model_id"])?.hookNames ?? [];
  return (
    <FormPage
      title="Train an SAE"
      button="Start training"
      beside="Runs as a job: it continues after a restart of the server, and other requests are answered meanwhile."
      form={form}
    >
      <Grid>
        <TextField {...shared} name="sae_id" label="New SAE's id" />
        <SelectField {...shared} name="model_id" label="Model" options={models.map((m) => [m.id, m.id])} />
        <SelectField {...shared} name="corpus_id" label="Corpus" options={corpora.map((c) => [c.id, c.id])} />
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
      </Grid>
      <MoreSettings {...shared} names={advanced.map((f) => f.name)}>
        <Grid>
          <NumberFields {...shared} fields={advanced} />
        </Grid>
      </MoreSettings>
    </FormPage>
  );
}

function complete(typed: TypedValues, models: Model[], corpora: Corpus[]): FormValues {
  const { model, corpus, ...rest } = typed;
  const values = { ...rest, model_id: rest["model_id"] ?? model, corpus_id: rest["corpus_id"] ?? corpus };
  return trainingDefaults(models.find((m) => m.id === values.model_id) ?? models[0], corpora, values);
}

function check(values: FormValues): FormErrors {
  return {
    ...checkNumbers(shownFields(training_numbers, values["architecture"] ?? ""), values),
    ...withErrors([
      ["sae_id", checkId(values["sae_id"] ?? "")],
      ["hook_name", (values["hook_name"] ?? "") === "" ? "a hook point is needed" : undefined],
    ]),
  };
}
