// The evaluations of an SAE: their numbers with definitions, their histograms, and a form for a new one whose
// progress is shown here.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link } from "wouter";

import { describeError } from "../../api/errors";
import { jobs } from "../../api/client";
import { evaluationsQuery } from "../../api/queries";
import { Histogram } from "../../charts/Histogram";
import { newKey } from "../../forms/fields";
import type { Evaluation, MetricDefinition } from "../../gen/featurescope/v1/evaluation_pb.js";
import type { Job } from "../../gen/featurescope/v1/jobs_pb.js";
import { isActive } from "../../jobs/reducer";
import { useJobs } from "../../jobs/useJobs";
import { formatCount, formatTime } from "../../lib/format";
import { Button } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { Choice } from "../../ui/Choice";
import { DataTable, type Column } from "../../ui/DataTable";
import { ErrorNote } from "../../ui/ErrorNote";
import { Loading } from "../../ui/Notes";
import table from "../../ui/Table.module.css";
import { Tip } from "../../ui/Term";
import { choiceParam, textParam } from "../../url/codec";
import { jobLink } from "../../url/links";
import { useUrlState } from "../../url/useUrlState";
import { Progress, progressText } from "../jobs/JobState";
import styles from "./Evaluations.module.css";
import { EvaluationForm } from "./EvaluationForm";
import { main_metrics, metricGroups, metricLabel, metricText, toEvaluationSpec, type EvaluationValues } from "./evaluation";

// Which evaluation's details are open, by its job.
const codec = { eval: textParam(), evalhist: choiceParam(["plot", "table"], "plot") };

export function EvaluationsCard({ sae, model, corpus }: { sae: string; model: string; corpus: string | undefined }) {
  const [{ eval: open }, set] = useUrlState(codec);
  const [isAsking, setAsking] = useState(false);
  const { data, error, refetch } = useQuery(evaluationsQuery(sae));
  const submit = useMutation({
    mutationFn: (values: EvaluationValues) => jobs.submitEvaluation({ spec: toEvaluationSpec(sae, values), idempotencyKey: newKey() }),
    onSuccess: () => setAsking(false),
  });
  const shown = data?.evaluations.find((evaluation) => evaluation.jobId === open);
  const definitions = data?.definitions ?? [];
  return (
    <Card
      title="Evaluations"
      note={data && data.evaluations.length > 0 ? data.evaluations.length : undefined}
      actions={
        <Button onClick={() => setAsking(!isAsking)} aria-expanded={isAsking}>
          Evaluate…
        </Button>
      }
      flush
    >
      <div data-testid="evaluations">
        {isAsking && (
          <EvaluationForm
            model={model}
            corpus={corpus}
            isBusy={submit.isPending}
            failure={submit.error ? describeError(submit.error) : undefined}
            onSubmit={(values) => submit.mutate(values)}
            onClose={() => setAsking(false)}
          />
        )}
        <Running sae={sae} submitted={submit.data} />
        {error ? (
          <ErrorNote error={error} onRetry={() => void refetch()} />
        ) : data === undefined ? (
          <Loading what="evaluations" />
        ) : data.evaluations.length === 0 ? (
          <p className={styles.none}>Not evaluated yet: how well it reconstructs, and what that costs the model, is measured on held-out text.</p>
        ) : (
          <Evaluations evaluations={data.evaluations} definitions={definitions} open={open} onOpen={(id) => set({ eval: id === open ? "" : id })} />
        )}
        {shown !== undefined && <Details evaluation={shown} definitions={definitions} />}
      </div>
    </Card>
  );
}

// Evaluations of this SAE that are not done; as they end, the list is read again.
function Running({ sae, submitted }: { sae: string; submitted: Job | undefined }) {
  const live = useJobs();
  const queries = useQueryClient();
  const known = new Map(live.jobs);
  if (submitted !== undefined && !known.has(submitted.id)) known.set(submitted.id, submitted);
  const own = [...known.values()].filter((job) => job.spec.case === "evaluation" && job.spec.value.saeId === sae);
  const running = own.filter((job) => isActive(job.state));
  const failed = own.find((job) => job.id === submitted?.id && !isActive(job.state) && job.error !== "");
  const ended = own.length - running.length;
  useEffect(() => {
    void queries.invalidateQueries({ queryKey: evaluationsQuery(sae).queryKey });
  }, [queries, sae, ended]);
  return (
    <>
      {running.map((job) => (
        <p key={job.id} className={styles.running} data-testid="evaluating">
          <Link href={jobLink(job.id)}>Evaluating{job.spec.case === "evaluation" ? ` on ${job.spec.value.corpusId}` : ""}</Link>
          <Progress job={job} label={`Progress of evaluating ${sae}`} />
          <span>{progressText(job)}</span>
        </p>
      ))}
      {failed !== undefined && (
        <p className={styles.failed} role="alert">
          The evaluation failed: {failed.error} (<Link href={jobLink(failed.id)}>job</Link>)
        </p>
      )}
    </>
  );
}

interface ListProps {
  evaluations: readonly Evaluation[];
  definitions: readonly MetricDefinition[];
  open: string;
  onOpen: (job: string) => void;
}

function Metric({ name, definitions }: { name: string; definitions: readonly MetricDefinition[] }) {
  const definition = definitions.find((d) => d.name === name);
  if (definition === undefined) return <>{metricLabel(name)}</>;
  return (
    <Tip text={`${definition.meaning.charAt(0).toUpperCase()}${definition.meaning.slice(1)}.`} formula={definition.formula} id={name}>
      {metricLabel(name)}
    </Tip>
  );
}

function Evaluations({ evaluations, definitions, open, onOpen }: ListProps) {
  const columns: Column<Evaluation>[] = [
    { title: "Corpus", heads: true, cell: (e) => e.corpusId },
    { title: "Part", className: table.muted, cell: (e) => e.spec?.part || "auto" },
    { title: "Tokens", numeric: true, cell: (e) => formatCount(e.nTokens) },
    ...main_metrics.map(
      (name): Column<Evaluation> => ({
        title: <Metric name={name} definitions={definitions} />,
        numeric: true,
        cell: (e) => metricText(name, e.metrics[name]),
      }),
    ),
    { title: "When", className: table.muted, cell: (e) => formatTime(e.created) },
    {
      title: <span className="sr-only">Details</span>,
      numeric: true,
      cell: (e) => (
        <Button look="quiet" aria-expanded={e.jobId === open} onClick={() => onOpen(e.jobId)}>
          {e.jobId === open ? "Hide details" : "Details"}
          <span className="sr-only"> of the evaluation on {e.corpusId} of {formatTime(e.created)}</span>
        </Button>
      ),
    },
  ];
  return <DataTable rows={evaluations} columns={columns} keyOf={(e) => e.jobId} isSelected={(e) => e.jobId === open} />;
}

const histogram_texts: Record<string, [string, string, string]> = {
  l0: ["Active features of a token", "tokens", "L0"],
  activation: ["Activations", "activations", "activation"],
  density: ["Densities of the features", "features", "density"],
};

function Details({ evaluation, definitions }: { evaluation: Evaluation; definitions: readonly MetricDefinition[] }) {
  const [{ evalhist }, set] = useUrlState(codec);
  const { nContexts, nTokens, nPredicted } = evaluation;
  return (
    <div className={styles.details} data-testid="evaluation">
      <div className={styles.detailsHead}>
        <p>
          {formatCount(nTokens)} tokens of {formatCount(nContexts)} contexts; {formatCount(nPredicted)} predicted tokens.
        </p>
        <Choice
          label="Histograms: how to show them"
          value={evalhist}
          options={[
            ["plot", "Plots"],
            ["table", "Tables"],
          ]}
          onChange={(next) => set({ evalhist: next })}
        />
      </div>
      <div className={styles.histograms}>
        {Object.entries(histogram_texts).map(([name, [title, counted, quantity]]) => (
          <section key={name} aria-label={title}>
            <h3>{title}</h3>
            <Histogram histogram={evaluation.histograms[name]} counted={counted} quantity={quantity} axis="log" asTable={evalhist === "table"} />
          </section>
        ))}
      </div>
      <div className={styles.groups}>
        {metricGroups(evaluation, definitions).map(([title, rows]) => (
          <section key={title} aria-label={title}>
            <h3>{title}</h3>
            <dl>
              {rows.map(({ name, value, definition }) => (
                <div key={name}>
                  <dt>
                    <span>{metricLabel(name)}</span>
                    <span>{metricText(name, value)}</span>
                  </dt>
                  {definition !== undefined && (
                    <dd>
                      <code>{definition.formula}</code>
                      <span>{definition.meaning}</span>
                    </dd>
                  )}
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </div>
  );
}
