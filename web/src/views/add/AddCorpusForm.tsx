// The form that tokenises text files of the server into a corpus, with its progress.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation } from "wouter";

import { catalog } from "../../api/client";
import { modelsQuery } from "../../api/queries";
import styles from "../../forms/Form.module.css";
import { CheckField, FormPage, Grid, LinesField, MoreSettings, NumberFields, SelectField, TextField } from "../../forms/FormParts";
import { useForm } from "../../forms/useForm";
import type { AddCorpusResponse, Model } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatShort } from "../../lib/format";
import { ErrorNote } from "../../ui/ErrorNote";
import { Empty, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { home_link } from "../../url/links";
import { checkCorpus, completeCorpus, corpus_numbers, corpusCodec, document_formats, layouts, toAddCorpus } from "./add";

export default function AddCorpusForm() {
  usePageTitle("Add a corpus");
  const models = useQuery(modelsQuery);
  if (models.isError) return <ErrorNote error={models.error} onRetry={() => void models.refetch()} />;
  if (!models.data) return <Loading what="models" />;
  const usable = models.data.filter((m) => m.hasTokenizer);
  if (usable.length === 0) {
    return <Empty title="A corpus needs a model with a tokenizer." command="featurescope model pull ORG/NAME --wait" />;
  }
  return <Form models={usable} />;
}

function Form({ models }: { models: Model[] }) {
  const [, navigate] = useLocation();
  const queries = useQueryClient();
  const [progress, setProgress] = useState<AddCorpusResponse>();
  const { shared, form } = useForm({
    codec: corpusCodec,
    complete: (typed) => completeCorpus(typed, models[0]?.id ?? ""),
    check: checkCorpus,
    send: async (values) => {
      setProgress(undefined);
      for await (const answer of catalog.addCorpus(toAddCorpus(values), { timeoutMs: 0 })) setProgress(answer);
      return home_link;
    },
    done: (link) => {
      void queries.invalidateQueries({ queryKey: ["corpora"] });
      navigate(link);
    },
  });
  return (
    <FormPage
      title="Add a corpus"
      note="Text, JSON Lines, CSV and TSV files of the server, also as .gz and .zst, and directories of them."
      card="Files"
      button="Tokenise"
      beside={form.busy && progress !== undefined ? <Progress progress={progress} /> : "Adding the same files again changes nothing."}
      form={form}
    >
      <Grid>
        <LinesField {...shared} name="paths" label="Files and directories" hint="One path on the server a line." />
        <TextField {...shared} name="corpus_id" label="New corpus' id" />
        <SelectField {...shared} name="model_id" label="Tokenizer of" options={models.map((m) => [m.id, m.id])} />
        <SelectField {...shared} name="layout" label="Layout" options={layouts} />
        <NumberFields {...shared} fields={corpus_numbers} />
      </Grid>
      <MoreSettings {...shared} names={["text_field", "document_format", "text_separator"]}>
        <Grid>
          <TextField {...shared} name="text_field" label="Field or column of the text" hint="In JSON Lines, CSV and TSV; empty: text." />
          <SelectField {...shared} name="document_format" label="Format" options={document_formats} />
          <TextField {...shared} name="text_separator" label="Separator of documents" hint="In text files; empty: one document a file." />
        </Grid>
        <div className={styles.checks}>
          <CheckField {...shared} name="no_bos" label="No BOS token in front of each context" />
          <CheckField {...shared} name="append_eos" label="EOS token behind each document" />
        </div>
      </MoreSettings>
    </FormPage>
  );
}

function Progress({ progress }: { progress: AddCorpusResponse }) {
  const share = progress.bytesTotal === 0n ? 0 : Number(progress.bytesRead) / Number(progress.bytesTotal);
  return (
    <>
      <span
        className={styles.progress}
        role="progressbar"
        aria-label="Tokenising"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(100 * share)}
      >
        <span style={{ width: `${100 * share}%` }} />
      </span>
      <span>
        {formatShort(progress.nTokens)} tokens, {formatShort(progress.tokensPerSecond)} a second
      </span>
    </>
  );
}
