// The form of a new activation cache, and the caches there are.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useLocation } from "wouter";

import { jobs } from "../../api/client";
import { cachesQuery, corporaQuery, modelsQuery } from "../../api/queries";
import { CheckField, FormPage, Grid, SelectField, TextField } from "../../forms/FormParts";
import { useForm } from "../../forms/useForm";
import type { Corpus, Model } from "../../gen/featurescope/v1/catalog_pb.js";
import type { ActivationCache } from "../../gen/featurescope/v1/training_pb.js";
import { formatBytes, formatCount } from "../../lib/format";
import { cachingCodec, cachingDefaults, checkCaching, toCachingSpec } from "../../training/caching";
import { Button } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { ErrorNote } from "../../ui/ErrorNote";
import { Modal } from "../../ui/Modal";
import { Empty, Loading } from "../../ui/Notes";
import { usePageTitle } from "../../ui/usePageTitle";
import { jobLink } from "../../url/links";
import jobs_styles from "../jobs/Jobs.module.css";
import styles from "./Train.module.css";

export default function CachingForm() {
  usePageTitle("Cache activations");
  const models = useQuery(modelsQuery);
  const corpora = useQuery(corporaQuery);
  const failed = [models, corpora].find((query) => query.isError);
  if (failed) return <ErrorNote error={failed.error} onRetry={() => void failed.refetch()} />;
  if (!models.data || !corpora.data) return <Loading what="models and corpora" />;
  if (models.data.length === 0) return <Empty title="A cache needs a model." command="featurescope model add ID DIR" />;
  if (corpora.data.length === 0) return <Empty title="A cache needs a corpus." command="featurescope corpus add ID FILE... --model MODEL" />;
  return <Form models={models.data} corpora={corpora.data} />;
}

function Form({ models, corpora }: { models: Model[]; corpora: Corpus[] }) {
  const [, navigate] = useLocation();
  const { values, shared, form } = useForm({
    codec: cachingCodec,
    complete: (typed) => cachingDefaults(typed, models, corpora),
    check: checkCaching,
    send: (given, key) => jobs.submitCaching({ spec: toCachingSpec(given), idempotencyKey: key }),
    done: (job) => navigate(jobLink(job.id)),
  });
  const hooks = models.find((m) => m.id === values["model_id"])?.hookNames ?? [];
  return (
    <FormPage
      title="Cache activations"
      note="Writes a model's activations on a corpus to disk once, for many training runs to read."
      button="Start caching"
      form={form}
      aside={<Caches />}
    >
      <Grid>
        <TextField {...shared} name="cache_id" label="New cache's id" />
        <SelectField {...shared} name="model_id" label="Model" options={models.map((m) => [m.id, m.id])} />
        <SelectField {...shared} name="corpus_id" label="Corpus" options={corpora.map((c) => [c.id, c.id])} />
        <TextField {...shared} name="hook_names" label="Hook points" hint="Several with commas; a transcoder needs two." suggestions={hooks} />
        <SelectField
          {...shared}
          name="dtype"
          label="Type of the numbers"
          options={[
            ["", "default: bfloat16"],
            ["float16", "float16"],
            ["float32", "float32"],
          ]}
        />
      </Grid>
      <div className={styles.below}>
        <CheckField {...shared} name="special_tokens" label="Keep positions of special tokens and BOS" />
      </div>
    </FormPage>
  );
}

function Caches() {
  const { data, error } = useQuery(cachesQuery);
  return (
    <Card title="Activation caches" note={data && data.length > 0 ? data.length : undefined}>
      {error ? (
        <ErrorNote error={error} />
      ) : data === undefined ? (
        <Loading what="caches" />
      ) : data.length === 0 ? (
        <p className={styles.none}>There is none yet.</p>
      ) : (
        <ul className={styles.members}>
          {data.map((cache) => (
            <CacheRow key={cache.id} cache={cache} />
          ))}
        </ul>
      )}
    </Card>
  );
}

function CacheRow({ cache }: { cache: ActivationCache }) {
  const [isAsking, setAsking] = useState(false);
  const queries = useQueryClient();
  const remove = useMutation({
    mutationFn: () => jobs.deleteActivationCache({ cacheId: cache.id }),
    onSuccess: () => queries.invalidateQueries({ queryKey: cachesQuery.queryKey }),
  });
  return (
    <li>
      <div className={styles.cache}>
        <span className="mono">{cache.id}</span>
        <Button look="quiet" onClick={() => setAsking(true)} aria-label={`Delete the cache ${cache.id}`}>
          Delete…
        </Button>
      </div>
      <span>
        {cache.hookNames.join(", ")} · {formatCount(cache.nRows)} tokens · {cache.dtype} · {formatBytes(cache.bytes)}
      </span>
      {isAsking && (
        <Modal title={`Delete the cache ${cache.id}?`} onClose={() => setAsking(false)}>
          <p>{formatBytes(cache.bytes)} are freed. Training runs that read it fail.</p>
          {remove.isError && <ErrorNote error={remove.error} />}
          <div className={jobs_styles.confirm}>
            <Button onClick={() => setAsking(false)}>Keep it</Button>
            <Button look="danger" disabled={remove.isPending} onClick={() => remove.mutate()}>
              Delete it
            </Button>
          </div>
        </Modal>
      )}
    </li>
  );
}
