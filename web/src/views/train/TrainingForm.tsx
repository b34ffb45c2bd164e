// The form of a new training job: a recipe, what matters for the architecture, all other settings, and the
// plan beside it. Lists make it a sweep.
import { Code } from "@connectrpc/connect";
import { useQuery } from "@tanstack/react-query";
import { useLocation } from "wouter";

import { describeError, type ApiError } from "../../api/errors";
import { jobs } from "../../api/client";
import { cachesQuery, corporaQuery, modelsQuery, presetsQuery } from "../../api/queries";
import type { FormValues } from "../../forms/fields";
import { FormPage, Grid, SelectField } from "../../forms/FormParts";
import { useForm, type Shared } from "../../forms/useForm";
import type { Corpus, Model } from "../../gen/featurescope/v1/catalog_pb.js";
import type { Preset } from "../../gen/featurescope/v1/training_pb.js";
import { counts } from "../../training/architectures";
import { trainingCodec, trainingDefaults } from "../../training/defaults";
import { fieldText, specField, type SpecField, type TrainingSpec } from "../../training/fields";
import { checkSpec, membersOf, readsFiles, splitList, toSweep, toTrainingSpec } from "../../training/sweep";
import { ErrorNote } from "../../ui/ErrorNote";
import { Field } from "../../ui/Field";
import { Empty, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { jobLink } from "../../url/links";
import { AllSettings } from "./AllSettings";
import { ArchitectureField } from "./ArchitectureField";
import { PlanCard } from "./PlanCard";
import { PresetField } from "./PresetField";
import { SpecInput } from "./SpecInput";
import { usePlan } from "./usePlan";

export default function TrainingForm() {
  usePageTitle("Train an SAE");
  const models = useQuery(modelsQuery);
  const corpora = useQuery(corporaQuery);
  const presets = useQuery(presetsQuery);
  const failed = [models, corpora, presets].find((query) => query.isError);
  if (failed) return <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />;
  if (!models.data || !corpora.data || !presets.data) return <Loading what="models, corpora and recipes" />;
  if (models.data.length === 0) return <Empty title="Training needs a model." command="featurescope model add ID DIR" />;
  if (corpora.data.length === 0) return <Empty title="Training needs a corpus." command="featurescope corpus add ID FILE... --model MODEL" />;
  return <Form models={models.data} corpora={corpora.data} presets={presets.data.presets} defaults={presets.data.defaults} />;
}

function submit(values: FormValues, key: string) {
  const [only, ...others] = membersOf(values);
  if (only !== undefined && others.length === 0) {
    return jobs.submitTraining({ spec: toTrainingSpec({ ...only.values, sae_id: only.id }), idempotencyKey: key });
  }
  return jobs.submitSweep({ spec: toSweep(values), idempotencyKey: key });
}

interface FormProps {
  models: Model[];
  corpora: Corpus[];
  presets: Preset[];
  defaults: TrainingSpec | undefined;
}

function Form({ models, corpora, presets, defaults }: FormProps) {
  const [, navigate] = useLocation();
  const caches = useQuery(cachesQuery);
  const presetOf = (name: string | undefined) => presets.find((preset) => preset.name === name);
  const { values, shared, form } = useForm({
    codec: trainingCodec,
    complete: (typed) => trainingDefaults(typed, models, corpora, presetOf(typed["preset"])),
    check: checkSpec,
    send: submit,
    done: (job) => navigate(jobLink(job.id)),
  });
  const errors = checkSpec(values);
  const planned = usePlan(values, errors);
  const members = errors["sae_id"] === undefined ? membersOf(values) : [];
  // Wrong numbers and the server's refusals stand at their fields as soon as they are known.
  const told: Shared = {
    ...shared,
    errors: { ...errors, ...shared.errors },
    failure: atField(shared.failure ?? (planned.error ? describeError(planned.error) : undefined)),
  };
  const preset = presetOf(values["preset"]);
  const fallbackOf = (field: SpecField) =>
    rounded(field, fieldText(preset?.spec, field) || sameText(planned.plan?.resolved ?? [], field) || fieldText(defaults, field));
  return (
    <FormPage
      title={members.length > 1 ? "Train a sweep of SAEs" : "Train an SAE"}
      button={members.length > 1 ? `Start training ${members.length} SAEs` : "Start training"}
      beside="Runs as a job: it continues after a restart of the server, and other requests are answered meanwhile."
      form={form}
      aside={<PlanCard {...planned} members={members} errors={errors} />}
    >
      <PresetField {...told} presets={presets} />
      <MainFields {...told} models={models} corpora={corpora} fallbackOf={fallbackOf} />
      <AllSettings {...told} caches={caches.data ?? []} fallbackOf={fallbackOf} />
    </FormPage>
  );
}

// That an id is taken is told where it is typed.
function atField(failure: ApiError | undefined): ApiError | undefined {
  if (failure?.code !== Code.AlreadyExists || failure.violations.length > 0) return failure;
  return { ...failure, violations: [{ field: "sae_id", description: failure.message }] };
}

// A default to read, not to compute with.
function rounded(field: SpecField, text: string): string {
  return field.kind === "real" && text !== "" ? String(Number(Number(text).toPrecision(4))) : text;
}

// The value that all SAEs of a plan have, if they have one.
function sameText(specs: readonly TrainingSpec[], field: SpecField): string {
  const texts = new Set(specs.map((spec) => fieldText(spec, field)));
  return texts.size === 1 ? ([...texts][0] ?? "") : "";
}

interface MainProps extends Shared {
  models: Model[];
  corpora: Corpus[];
  fallbackOf: (field: SpecField) => string;
}

const labels: [string, string, string?][] = [
  ["d_sae", "Features (d_sae)", "Often 8 to 32 times the hook's width. A list makes a sweep: 4096, 8192"],
  ["k", "k", "Active features per token. A list makes a sweep: 16, 32, 64"],
  ["l1_coefficient", "L1 coefficient", "Weight of the penalty. A list makes a sweep: 1, 5, 10"],
  ["target_l0", "Target L0", "Active features per token; 0: the L0 itself is penalised. A list makes a sweep."],
  ["l0_coefficient", "L0 coefficient", "Weight of the L0 penalty. A list makes a sweep."],
  ["tokens", "Tokens", "The corpus is repeated, reshuffled, as often as needed."],
  ["batch_size", "Batch size", "Tokens per step."],
  ["learning_rate", "Learning rate", "A list makes a sweep."],
  ["seed", "Seed", undefined],
];

function MainFields({ models, corpora, fallbackOf, ...told }: MainProps) {
  const chosen = splitList(told.values["architecture"] ?? "");
  const penalty = told.values["sparsity_penalty"] ?? "";
  const isCounted = (field: SpecField) => chosen.some((a) => counts(field, a, penalty));
  const hooks = models.find((m) => m.id === told.values["model_id"])?.hookNames ?? [];
  const out = specField("hook_name_out");
  return (
    <Grid>
      <SpecInput {...told} field={specField("sae_id")} label="New SAE's id" hint="" fallback="" />
      <SelectField {...told} name="model_id" label="Model" options={models.map((m) => [m.id, m.id])} />
      {readsFiles(told.values) ? (
        <Field label="Corpus" hint="Chosen under All settings, Data and size.">
          {(control) => (
            <select {...control} disabled>
              <option>{told.values["cache_id"] ? `activations of ${told.values["cache_id"]}` : "activations from files"}</option>
            </select>
          )}
        </Field>
      ) : (
        <SelectField {...told} name="corpus_id" label="Corpus" options={corpora.map((c) => [c.id, c.id])} />
      )}
      <SpecInput {...told} field={specField("hook_name")} label="Hook point" hint="Several, with commas, make a sweep." fallback="" suggestions={hooks} />
      {isCounted(out) && <SpecInput {...told} field={out} label="Target hook point" hint="What the transcoder reconstructs." fallback="" suggestions={hooks} />}
      <ArchitectureField {...told} />
      {labels
        .map(([name, label, hint]) => ({ field: specField(name), label, hint }))
        .filter(({ field }) => isCounted(field))
        .map(({ field, label, hint }) => (
          <SpecInput key={field.name} {...told} field={field} label={label} hint={hint ?? ""} fallback={fallbackOf(field) || (field.name === "seed" ? "0" : "")} />
        ))}
    </Grid>
  );
}
