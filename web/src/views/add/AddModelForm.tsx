// The form that adds a model, from a directory on the server or from the hub.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useLocation } from "wouter";

import { catalog, jobs } from "../../api/client";
import { serverQuery } from "../../api/queries";
import { FormPage, Grid, LinesField, MoreSettings, TextField } from "../../forms/FormParts";
import { useForm } from "../../forms/useForm";
import { usePageTitle } from "../../ui/usePageTitle";
import { home_link, jobLink } from "../../url/links";
import { checkModel, completeModel, modelCodec, sourceOf, toModelImport } from "./add";
import { SourceChoice } from "./SourceChoice";

export default function AddModelForm() {
  usePageTitle("Add a model");
  const [, navigate] = useLocation();
  const queries = useQueryClient();
  const server = useQuery(serverQuery);
  const { values, shared, form } = useForm({
    codec: modelCodec,
    complete: completeModel,
    check: checkModel,
    send: async (values, key) => {
      if (sourceOf(values) === "hub") {
        const job = await jobs.submitImport({ spec: toModelImport(values), idempotencyKey: key });
        return jobLink(job.id);
      }
      const model = await catalog.addModel({ modelId: values["model_id"], path: values["path"]?.trim() }, { timeoutMs: 0 });
      return `${home_link}?model=${encodeURIComponent(model.id)}`;
    },
    done: (link) => {
      void queries.invalidateQueries({ queryKey: ["models"] });
      navigate(link);
    },
  });
  const isHub = sourceOf(values) === "hub";
  return (
    <FormPage
      title="Add a model"
      card="Source"
      button={isHub ? "Download it" : "Add it"}
      beside={isHub ? "Runs as a job; an interrupted download continues where it stopped." : "The weights are read once, completely."}
      form={form}
    >
      <SourceChoice {...shared} />
      <Grid>
        {isHub ? (
          <TextField {...shared} name="repo" label="Repository" hint={`ORG/NAME on ${server.data?.hubEndpoint ?? "the hub"}`} />
        ) : (
          <TextField {...shared} name="path" label="Directory" hint="Hugging Face layout: config.json, *.safetensors, tokenizer files." />
        )}
        <TextField {...shared} name="model_id" label="New model's id" />
      </Grid>
      {isHub && (
        <MoreSettings {...shared} names={["revision", "include"]}>
          <Grid>
            <TextField {...shared} name="revision" label="Revision" hint="Branch, tag or commit; empty: main." />
            <LinesField {...shared} name="include" label="Only files that match" hint="One pattern a line; empty: what a model needs." />
          </Grid>
        </MoreSettings>
      )}
    </FormPage>
  );
}
