// The form that adds an SAE, from files on the server or from a published release.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useLocation } from "wouter";

import { catalog, jobs } from "../../api/client";
import { modelsQuery, saeReleasesQuery } from "../../api/queries";
import styles from "../../forms/Form.module.css";
import { CheckField, FormPage, Grid, MoreSettings, NumberFields, SelectField, TextField } from "../../forms/FormParts";
import { useForm } from "../../forms/useForm";
import { ErrorNote } from "../../ui/ErrorNote";
import { Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { jobLink, saeLink } from "../../url/links";
import { checkSae, completeSae, sae_choices, sae_numbers, saeCodec, sourceOf, toAddSae, toSaeImport } from "./add";
import { SourceChoice } from "./SourceChoice";

const as_known = "as the files say";

export default function AddSaeForm() {
  usePageTitle("Add an SAE");
  const [, navigate] = useLocation();
  const queries = useQueryClient();
  const models = useQuery(modelsQuery);
  const releases = useQuery(saeReleasesQuery);
  const { values, shared, form } = useForm({
    codec: saeCodec,
    complete: completeSae,
    check: checkSae,
    send: async (values, key) => {
      if (sourceOf(values) === "hub") {
        const job = await jobs.submitImport({ spec: toSaeImport(values), idempotencyKey: key });
        return jobLink(job.id);
      }
      return saeLink((await catalog.addSae(toAddSae(values), { timeoutMs: 0 })).id);
    },
    done: (link) => {
      void queries.invalidateQueries({ queryKey: ["saes"] });
      navigate(link);
    },
  });
  if (models.isError) return <ErrorNote error={models.error} onRetry={() => void models.refetch()} />;
  if (!models.data) return <Loading what="models" />;
  const isHub = sourceOf(values) === "hub";
  const hooks = models.data.find((m) => m.id === values["model_id"])?.hookNames ?? [];
  const choose = (name: keyof typeof sae_choices): [string, string][] => sae_choices[name].map((c) => [c, c === "" ? as_known : c]);
  const more = ["hook_name_out", "center_writing_weights", ...sae_numbers.map((f) => f.name)];
  return (
    <FormPage
      title="Add an SAE"
      note="The format is recognised from the files: SAELens, Gemma Scope, dictionary_learning, OpenAI, sparsify, Llama Scope and more."
      card="Source"
      button={isHub ? "Download it" : "Add it"}
      beside={isHub ? "Runs as a job; an interrupted download continues where it stopped." : "What was recognised is shown next."}
      form={form}
    >
      <SourceChoice {...shared} />
      <Grid>
        {isHub ? (
          <TextField
            {...shared}
            name="source"
            label="Release and id"
            hint="RELEASE/ID of a known release, or ORG/NAME/PATH."
            suggestions={(releases.data ?? []).map((r) => `${r.name}/${r.exampleId}`)}
          />
        ) : (
          <TextField {...shared} name="path" label="Directory or file" />
        )}
        <TextField {...shared} name="sae_id" label="New SAE's id" />
        <SelectField
          {...shared}
          name="model_id"
          label="Model"
          options={[["", "as the files say"], ...models.data.map((m): [string, string] => [m.id, m.id])]}
        />
        <TextField {...shared} name="hook_name" label="Hook point" hint="Empty: as the files say." suggestions={hooks} />
      </Grid>
      <MoreSettings {...shared} names={more}>
        <Grid>
          <SelectField
            {...shared}
            name="center_writing_weights"
            label="Centred writing weights"
            hint="Trained on activations less their mean over d_model."
            options={sae_choices.center_writing_weights.map((c) => [c, c === "" ? "as is known of the release" : c])}
          />
          {isHub ? (
            <TextField {...shared} name="revision" label="Revision" hint="Branch, tag or commit; empty: main." />
          ) : (
            <>
              <TextField {...shared} name="hook_name_out" label="Output's hook point" hint="Transcoders only." suggestions={hooks} />
              <SelectField {...shared} name="normalize_activations" label="Normalisation" options={choose("normalize_activations")} />
              <SelectField {...shared} name="apply_b_dec_to_input" label="b_dec taken off the input" options={choose("apply_b_dec_to_input")} />
              <SelectField {...shared} name="selection" label="Selection of TopK and BatchTopK" options={choose("selection")} />
              <NumberFields {...shared} fields={sae_numbers} />
            </>
          )}
        </Grid>
        <div className={styles.checks}>
          <CheckField {...shared} name="any_width" label="Accept an SAE of another width than its hook's, for vectors only" />
        </div>
      </MoreSettings>
    </FormPage>
  );
}
