// What the form stands for: the run's steps and memory, and the SAEs that come of it.
import { describeError } from "../../api/errors";
import type { FormErrors } from "../../forms/fields";
import type { TrainingPlan } from "../../gen/featurescope/v1/training_pb.js";
import { formatBytes, formatCount, formatNumber } from "../../lib/format";
import type { TrainingSpec } from "../../training/fields";
import type { Member } from "../../training/sweep";
import { Card } from "../../ui/Card";
import styles from "./Train.module.css";
import type { PlanState } from "./usePlan";

interface Props extends PlanState {
  members: readonly Member[];
  errors: FormErrors;
}

export function PlanCard({ plan, isCurrent, error, members, errors }: Props) {
  const n_wrong = Object.keys(errors).length;
  const state = n_wrong > 0 ? "incomplete" : error ? "refused" : isCurrent ? "ready" : "planning";
  const said = {
    incomplete: `${n_wrong === 1 ? "A field is" : `${n_wrong} fields are`} not right yet: ${Object.keys(errors).join(", ")}.`,
    refused: error ? describeError(error).message : "",
    ready: "This can be started.",
    planning: "Asking the server…",
  }[state];
  return (
    <>
      <Card title="Plan" note={members.length > 1 ? `${members.length} SAEs, one stream` : undefined}>
        <div className={styles.plan} data-plan={state} data-testid="plan">
          <p className={styles.planState} role="status">
            {said}
          </p>
          <PlanFacts plan={plan} />
        </div>
      </Card>
      {members.length > 1 && <SweepCard members={members} />}
    </>
  );
}

function PlanFacts({ plan }: { plan: TrainingPlan | undefined }) {
  const specs = plan?.resolved ?? [];
  const same = (read: (spec: TrainingSpec) => string) => {
    const texts = new Set(specs.map(read));
    return texts.size === 0 ? "–" : texts.size === 1 ? [...texts][0] : `${texts.size} values`;
  };
  const rows: [string, string | undefined][] = [
    ["Steps", plan === undefined ? "–" : formatCount(plan.steps)],
    ["Tokens", same((s) => formatCount(s.tokens))],
    ["Batch size", same((s) => formatCount(s.batchSize))],
    ["Features", same((s) => formatCount(s.dSae))],
    ["Learning rate", same((s) => formatNumber(s.learningRate))],
  ];
  return (
    <>
      <dl className={styles.planFacts}>
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <Memory held={Number(plan?.memoryBytes ?? 0n)} free={Number(plan?.availableBytes ?? 0n)} />
    </>
  );
}

function Memory({ held, free }: { held: number; free: number }) {
  const share = free > 0 ? Math.min(1, held / free) : 0;
  return (
    <div className={styles.memory}>
      <p>
        <span title="At its peak, beside the model">Memory</span>
        <span>{free > 0 ? `${formatBytes(held)} of ${formatBytes(free)} free` : held > 0 ? formatBytes(held) : "–"}</span>
      </p>
      <div
        className={styles.meter}
        role="meter"
        aria-label="Memory held of what is free"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(share * 100)}
        data-full={share > 0.9}
      >
        <span style={{ width: `${share * 100}%` }} />
      </div>
    </div>
  );
}

function SweepCard({ members }: { members: readonly Member[] }) {
  return (
    <Card title="SAEs of the sweep" note={members.length}>
      <ol className={styles.members} data-testid="members" tabIndex={0} aria-label="SAEs of the sweep">
        {members.map((member) => (
          <li key={member.id}>
            <span className="mono">{member.id}</span>
            <span>{member.differs.map(([name, text]) => `${name} ${text}`).join(" · ")}</span>
          </li>
        ))}
      </ol>
    </Card>
  );
}
