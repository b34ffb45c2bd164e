// What was recognised in an SAE's files, and what one should check about it.
import type { Sae } from "../../gen/featurescope/v1/catalog_pb.js";
import { formatCount } from "../../lib/format";
import { Card } from "../../ui/Card";
import { Warning } from "../../ui/Notes";
import styles from "./SaeView.module.css";

export function recognisedRows(sae: Sae): [string, string][] {
  const isTranscoder = sae.hookNameOut !== "" && sae.hookNameOut !== sae.hookName;
  return [
    ["Format", sae.format],
    ["Architecture", sae.activation === "" ? sae.architecture : `${sae.architecture}: ${sae.activation}`],
    ["Normalisation", sae.normalizeActivations],
    ["b_dec", sae.applyBDecToInput ? "subtracted from the input" : "not subtracted from the input"],
    ["Hook point", sae.hookName],
    ["Writes", isTranscoder ? sae.hookNameOut : ""],
    ["Trained on", sae.trainedOn],
    ["Centring", sae.centerWritingWeights ? "activations less their mean over d_model" : ""],
    ["Context", sae.contextSize > 0 ? `${formatCount(sae.contextSize)} tokens` : "the files do not say"],
    ["BOS", !sae.prependBosKnown ? "the files do not say" : sae.prependBos ? "contexts begin with it" : "contexts without it"],
    ["dtype of the files", sae.fileDtype],
    ["Source", sae.source],
  ];
}

export function RecognisedCard({ sae }: { sae: Sae }) {
  return (
    <Card title="Recognised">
      {sae.warnings.map((warning) => (
        <Warning key={warning}>{warning}</Warning>
      ))}
      <dl className={styles.recognised}>
        {recognisedRows(sae)
          .filter(([, value]) => value !== "")
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
      {[...sae.folds.map((fold) => `Folded into the weights: ${fold}`), ...sae.notes].map((note) => (
        <p key={note} className={styles.note}>
          {note}
        </p>
      ))}
    </Card>
  );
}
