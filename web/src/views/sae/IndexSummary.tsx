// What an index says of the SAE as a whole, and where its numbers come from.
import type { Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import type { IndexInfo } from "../../gen/featurescope/v1/features_pb.js";
import type { DefinitionId } from "../../lib/definitions";
import { formatCount, formatDuration, formatNumber, formatShare, formatShort, formatTime, shortHash } from "../../lib/format";
import { Term } from "../../ui/Term";
import styles from "./SaeView.module.css";

export function IndexTiles({ info }: { info: IndexInfo }) {
  const share = (n: number) => (info.dSae === 0 ? "" : formatShare(n / info.dSae));
  const tiles: [DefinitionId, string, string][] = [
    ["alive", formatCount(info.nAlive), share(info.nAlive)],
    ["dead", formatCount(info.nDead), share(info.nDead)],
    ["dense", formatCount(info.nDense), share(info.nDense)],
    ["mean_l0", formatNumber(info.meanL0), `of ${formatCount(info.dSae)}`],
    ["explained_variance", formatNumber(info.explainedVariance), `on ${formatShort(info.nTokens)} tokens`],
  ];
  return (
    <dl className={styles.tiles}>
      {tiles.map(([id, value, note]) => (
        <div key={id}>
          <dt>
            <Term id={id} />
          </dt>
          <dd>
            {value} <small>{note}</small>
          </dd>
        </div>
      ))}
    </dl>
  );
}

export function Provenance({ info, sae }: { info: IndexInfo; sae: Sae | undefined }) {
  const rows: [string, string, string?][] = [
    ["Model", info.modelId],
    ["Model hash", shortHash(info.modelHash), info.modelHash],
    ["SAE hash", shortHash(info.saeHash), info.saeHash],
    ["Corpus hash", shortHash(info.corpusHash), info.corpusHash],
    ["Tokens", formatCount(info.nTokens)],
    ["Contexts", formatCount(info.nContexts)],
    ["dtype", info.dtype],
    ["Seed", info.seed.toString()],
    ["Indexed", formatTime(info.created)],
    ["Took", formatDuration(info.seconds)],
    ["Format", sae?.format ?? ""],
    ["Normalisation", sae?.normalizeActivations ?? ""],
  ];
  return (
    <details className={styles.provenance}>
      <summary>Provenance</summary>
      <dl>
        {rows
          .filter(([, value]) => value !== "")
          .map(([name, value, title]) => (
            <div key={name} title={title}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
    </details>
  );
}
