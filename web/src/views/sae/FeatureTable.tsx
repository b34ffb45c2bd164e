// The features of an index, sorted by the server.
import { Link } from "wouter";

import type { FeatureStats } from "../../gen/featurescope/v1/features_pb.js";
import { definitions } from "../../lib/definitions";
import { formatNumber, formatShare } from "../../lib/format";
import { Tip } from "../../ui/Term";
import table from "../../ui/Table.module.css";
import { TokenText } from "../../ui/TokenText";
import { featureLink } from "../../url/links";
import styles from "./SaeView.module.css";
import { ariaSort, column_names, columns, sortedBy, type Column, type ListingState } from "./listing";

interface Props {
  sae: string;
  rows: FeatureStats[];
  total: number;
  first_row: number;
  state: ListingState;
  onSort: (patch: Partial<ListingState>) => void;
}

export function FeatureTable({ sae, rows, total, first_row, state, onSort }: Props) {
  return (
    <div className={styles.scroll}>
      <table className={`${table.table} ${styles.features}`} aria-rowcount={total + 1} aria-label="Features">
        <thead>
          <tr aria-rowindex={1}>
            <Head column="feature" state={state} onSort={onSort} />
            <th scope="col">
              <Tip text={definitions.top_token.text}>Top token</Tip>
            </th>
            <th scope="col">
              <Tip text={definitions.top_logit.text}>Top logit</Tip>
            </th>
            {column_names
              .filter((column) => column !== "feature")
              .map((column) => (
                <Head key={column} column={column} state={state} onSort={onSort} />
              ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((stats, i) => (
            <Row key={stats.feature} sae={sae} corpus={state.corpus} stats={stats} index={first_row + i} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

interface HeadProps {
  column: Column;
  state: ListingState;
  onSort: (patch: Partial<ListingState>) => void;
}

function Head({ column, state, onSort }: HeadProps) {
  const sort = ariaSort(state, column);
  const definition = columns[column].definition;
  const label = definition === undefined ? "Feature" : definitions[definition].label;
  const arrow = sort === "ascending" ? "▲" : sort === "descending" ? "▼" : "";
  return (
    <th scope="col" aria-sort={sort} className={column === "feature" ? undefined : "num"}>
      <button
        type="button"
        className={styles.sort}
        title={definition === undefined ? undefined : definitions[definition].text}
        onClick={() => onSort(sortedBy(state, column))}
      >
        {label}
        <span className={styles.arrow} aria-hidden="true">
          {arrow}
        </span>
      </button>
    </th>
  );
}

function Row({ sae, corpus, stats, index }: { sae: string; corpus: string; stats: FeatureStats; index: number }) {
  const isDead = stats.nActive === 0n;
  return (
    <tr aria-rowindex={index + 1} className={isDead ? styles.dead : undefined}>
      <th scope="row">
        <Link href={featureLink(sae, stats.feature, { corpus })} data-row>
          {stats.feature}
        </Link>
      </th>
      <td className={styles.token}>{isDead ? <span className={table.muted}>never fired</span> : <TokenText token={stats.topToken} />}</td>
      <td className={styles.token}><TokenText token={stats.topLogitToken} /></td>
      <td className="num">
        <span className={styles.densityCell}>
          <DensityBar density={stats.density} />
          {formatShare(stats.density)}
        </span>
      </td>
      {[stats.max, stats.mean, stats.std, stats.skewness, stats.kurtosis].map((value, i) => (
        <td key={i} className="num">
          {isDead ? "–" : formatNumber(value)}
        </td>
      ))}
      <td className="num">{formatNumber(stats.decoderNorm)}</td>
    </tr>
  );
}

// The density on a log scale from 10⁻⁶ to 1, beside its number.
function DensityBar({ density }: { density: number }) {
  const share = density > 0 ? Math.min(1, Math.max(0.02, 1 + Math.log10(density) / 6)) : 0;
  return (
    <span className={styles.density} aria-hidden="true">
      <span style={{ width: `${share * 100}%` }} />
    </span>
  );
}
