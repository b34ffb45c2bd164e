// The form of a new indexing job.
import { useQuery } from "@tanstack/react-query";
import { useLocation } from "wouter";

import { jobs } from "../../api/client";
import { corporaQuery, saesQuery } from "../../api/queries";
import { checkNumbers, onlyTyped, type FormValues, type TypedValues } from "../../forms/fields";
import { FormPage, Grid, MoreSettings, NumberFields, SelectField } from "../../forms/FormParts";
import { useForm } from "../../forms/useForm";
import type { Corpus, Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { jobLink } from "../../url/links";
import { indexing_numbers, indexingCodec, toIndexingSpec } from "./forms";

export default function IndexingForm() {
  usePageTitle("Index an SAE");
  const saes = useQuery(saesQuery);
  const corpora = useQuery(corporaQuery);
  const failed = [saes, corpora].find((query) => query.isError);
  if (failed) return <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />;
  if (!saes.data || !corpora.data) return <Loading what="SAEs and corpora" />;
  const usable = saes.data.filter((s) => !s.vectorsOnly);
  if (usable.length === 0) return <Empty title="Indexing needs an SAE." command="featurescope sae add ID PATH --model MODEL" />;
  if (corpora.data.length === 0) return <Empty title="Indexing needs a corpus." command="featurescope corpus add ID FILE... --model MODEL" />;
  return <Form saes={usable} corpora={corpora.data} />;
}

function Form({ saes, corpora }: { saes: Sae[]; corpora: Corpus[] }) {
  const [, navigate] = useLocation();
  const { shared, form } = useForm({
    codec: indexingCodec,
    complete: (typed) => complete(typed, saes, corpora),
    check: (values) => checkNumbers(indexing_numbers, values),
    send: (values, key) => jobs.submitIndexing({ spec: toIndexingSpec(values), idempotencyKey: key }),
    done: (job) => navigate(jobLink(job.id)),
  });
  const advanced = indexing_numbers.filter((f) => f.advanced);
  return (
    <FormPage
      title="Index an SAE"
      button="Start indexing"
      beside="One pass over the corpus finds out what every feature fires on."
      form={form}
    >
      <Grid>
        <SelectField {...shared} name="sae_id" label="SAE" options={saes.map((s) => [s.id, s.id])} />
        <SelectField {...shared} name="corpus_id" label="Corpus" options={corpora.map((c) => [c.id, c.id])} />
        <NumberFields {...shared} fields={indexing_numbers.filter((f) => !f.advanced)} />
      </Grid>
      <MoreSettings {...shared} names={advanced.map((f) => f.name)}>
        <Grid>
          <NumberFields {...shared} fields={advanced} />
        </Grid>
      </MoreSettings>
    </FormPage>
  );
}

function complete(typed: TypedValues, saes: Sae[], corpora: Corpus[]): FormValues {
  const { sae, corpus, ...rest } = onlyTyped(typed);
  const sae_id = rest["sae_id"] ?? sae ?? saes[0]?.id ?? "";
  const model = saes.find((s) => s.id === sae_id)?.modelId;
  const fitting = corpora.find((c) => c.modelId === model)?.id;
  return { ...rest, sae_id, corpus_id: rest["corpus_id"] ?? corpus ?? fitting ?? "" };
}
