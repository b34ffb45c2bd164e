// Whether the SAE fits the model and hook that it is bound to, found by running text through both.
import { useMutation } from "@tanstack/react-query";

import { explore } from "../../api/client";
import { CheckSaeResponse_Verdict, type CheckSaeResponse, type SaeFit } from "../../gen/featurescope/v1/explore_pb.js";
import { formatCount, formatNumber } from "../../lib/format";
import { Button } from "../../ui/Button";
import { Card } from "../../ui/Card";
import { ErrorNote } from "../../ui/ErrorNote";
import { Term } from "../../ui/Term";
import styles from "./SaeView.module.css";

const verdicts: Record<CheckSaeResponse_Verdict, [string, string]> = {
  [CheckSaeResponse_Verdict.VERDICT_UNSPECIFIED]: ["unknown", "?"],
  [CheckSaeResponse_Verdict.FITS]: ["fits", "✓"],
  [CheckSaeResponse_Verdict.DOUBTFUL]: ["doubtful", "▲"],
  [CheckSaeResponse_Verdict.DOES_NOT_FIT]: ["does not fit", "✕"],
};

export function CheckCard({ sae }: { sae: string }) {
  const check = useMutation({ mutationFn: () => explore.checkSae({ saeId: sae }, { timeoutMs: 0 }) });
  return (
    <Card
      title="Check"
      actions={
        <Button onClick={() => check.mutate()} disabled={check.isPending}>
          {check.isPending ? "Checking…" : check.data ? "Check again" : "Check"}
        </Button>
      }
    >
      <div role="status" data-testid="check">
        {check.isError && <ErrorNote error={check.error} />}
        {check.data ? (
          <Result result={check.data} />
        ) : (
          <p className={styles.note}>Runs an English passage through the model and says whether the SAE reconstructs what it reads, and if not, why.</p>
        )}
      </div>
    </Card>
  );
}

export function Result({ result }: { result: CheckSaeResponse }) {
  const [word, sign] = verdicts[result.verdict];
  return (
    <>
      <p className={styles.verdict} data-verdict={word}>
        <span aria-hidden="true">{sign}</span> {word}
      </p>
      {result.asBound && <Fit fit={result.asBound} />}
      {result.findings.length > 0 && (
        <ul className={styles.findings}>
          {result.findings.map((finding) => (
            <li key={finding}>{finding}</li>
          ))}
        </ul>
      )}
      <p className={styles.note}>
        {formatCount(result.nTokens)} tokens; {formatCount(result.nTried)} other bindings tried.
      </p>
    </>
  );
}

function Fit({ fit }: { fit: SaeFit }) {
  return (
    <dl className={styles.recognised}>
      <div>
        <dt>
          <Term id="explained_variance" />
        </dt>
        <dd>{formatNumber(fit.explainedVariance)}</dd>
      </div>
      <div>
        <dt>
          <Term id="mean_l0" />
        </dt>
        <dd>{formatNumber(fit.l0)}</dd>
      </div>
      <div>
        <dt>
          <Term id="norm_ratio" />
        </dt>
        <dd>{formatNumber(fit.normRatio)}</dd>
      </div>
      <div>
        <dt>
          <Term id="cosine" />
        </dt>
        <dd>{formatNumber(fit.cosine)}</dd>
      </div>
    </dl>
  );
}
