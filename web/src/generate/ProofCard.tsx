// What the interventions did: edited positions, activation before and after, size of the change.
import { useState } from "react";

import type { EditProof } from "../gen/featurescope/v1/explore_pb.js";
import { formatActivation, formatNumber } from "../lib/format";
import { Term } from "../ui/Term";
import { TokenText } from "../ui/TokenText";
import { Button } from "../ui/Button";
import table from "../ui/Table.module.css";
import styles from "./ProofCard.module.css";
import { mean, proofRows, type Generation } from "./reducer";

const first_rows = 8;

export function ProofCard({ proof, generation }: { proof: EditProof; generation: Generation }) {
  const [isWhole, setWhole] = useState(false);
  const rows = proofRows(proof, generation);
  const changes = rows.map((row) => row.change);
  const shown = isWhole ? rows : rows.slice(0, first_rows);
  return (
    <section className={styles.proof} aria-label="Proof of the edit" data-testid="proof">
      <h3>
        Proof <small>feature {proof.feature} of {proof.saeId}</small>
      </h3>
      <dl className={styles.summary}>
        <div>
          <dt>Positions edited</dt>
          <dd>{rows.length}</dd>
        </div>
        <div>
          <dt>Mean activation</dt>
          <dd>
            {formatActivation(mean(rows.map((r) => r.before)))} → {formatActivation(mean(rows.map((r) => r.after)))}
          </dd>
        </div>
        <div>
          <dt>
            <Term id="relative_change" /> mean, max
          </dt>
          <dd>
            {formatNumber(mean(changes))}, {formatNumber(Math.max(0, ...changes))}
          </dd>
        </div>
      </dl>
      {rows.length > 0 && (
        <table className={`${table.table} ${styles.rows}`}>
          <thead>
            <tr>
              <th scope="col" className="num">
                Position
              </th>
              <th scope="col">Token</th>
              <th scope="col" className="num">
                Before
              </th>
              <th scope="col" className="num">
                After
              </th>
              <th scope="col" className="num">
                ‖Δ‖ / ‖x‖
              </th>
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={row.position}>
                <td className="num">{row.position}</td>
                <td>
                  <TokenText token={row.token} />
                </td>
                <td className="num">{formatActivation(row.before)}</td>
                <td className="num">{formatActivation(row.after)}</td>
                <td className="num">{formatNumber(row.change)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {rows.length > first_rows && (
        <Button look="quiet" onClick={() => setWhole(!isWhole)}>
          {isWhole ? "Show fewer" : `Show all ${rows.length} positions`}
        </Button>
      )}
    </section>
  );
}
