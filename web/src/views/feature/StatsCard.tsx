// The feature's statistics, each with its definition.
import type { FeatureStats } from "../../gen/featurescope/v1/features_pb.js";
import type { DefinitionId } from "../../lib/definitions";
import { formatCount, formatNumber, formatShare } from "../../lib/format";
import { Card } from "../../ui/Card";
import { Term } from "../../ui/Term";
import styles from "./Feature.module.css";

export function StatsCard({ stats }: { stats: FeatureStats }) {
  const isDead = stats.nActive === 0n;
  const positive = (value: number) => (isDead ? "–" : formatNumber(value));
  const rows: [DefinitionId, string][] = [
    ["density", formatShare(stats.density)],
    ["n_active", formatCount(stats.nActive)],
    ["max", positive(stats.max)],
    ["mean", positive(stats.mean)],
    ["p50", positive(stats.p50)],
    ["std", positive(stats.std)],
    ["p90", positive(stats.p90)],
    ["skewness", positive(stats.skewness)],
    ["p99", positive(stats.p99)],
    ["kurtosis", positive(stats.kurtosis)],
    ["decoder_norm", formatNumber(stats.decoderNorm)],
  ];
  return (
    <Card title="Statistics">
      <dl className={styles.stats}>
        {rows.map(([id, value]) => (
          <div key={id}>
            <dt>
              <Term id={id} />
            </dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}
