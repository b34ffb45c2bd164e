// The tokens whose logits the feature raises and lowers most.
import type { LogitEffect } from "../../gen/featurescope/v1/features_pb.js";
import { formatNumber } from "../../lib/format";
import { quoted } from "../../lib/token";
import { Card } from "../../ui/Card";
import { Term } from "../../ui/Term";
import { TokenText } from "../../ui/TokenText";
import styles from "./Feature.module.css";

const shown = 10;

export function LogitsCard({ top, bottom }: { top: LogitEffect[]; bottom: LogitEffect[] }) {
  const largest = Math.max(0, ...[...top, ...bottom].map((effect) => Math.abs(effect.effect)));
  return (
    <Card title={<Term id="logit_effect">Logit effects</Term>}>
      <div className={styles.logits}>
        <Effects title="Raises" sign="positive" effects={top} largest={largest} />
        <Effects title="Lowers" sign="negative" effects={bottom} largest={largest} />
      </div>
    </Card>
  );
}

interface EffectsProps {
  title: string;
  sign: "positive" | "negative";
  effects: LogitEffect[];
  largest: number;
}

function Effects({ title, sign, effects, largest }: EffectsProps) {
  return (
    <table className={styles.effects} data-sign={sign}>
      <caption>{title}</caption>
      <tbody>
        {effects.slice(0, shown).map((effect, i) => (
          <tr key={i}>
            <th scope="row" title={quoted(effect.token)}>
              <span
                className={styles.bar}
                style={{ width: `${largest > 0 ? (Math.abs(effect.effect) / largest) * 100 : 0}%` }}
              />
              <span className={styles.effect}>
                <TokenText token={effect.token} />
              </span>
            </th>
            <td>
              <span className={styles.effect}>{formatNumber(effect.effect)}</span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
